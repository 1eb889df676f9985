"""What arrived at a fake server."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zconfig.channel.line import AUTHORIZATION
from zconfig.redaction import MASK, Secret

SERVICE = "/milvus.proto.milvus.MilvusService/"
"""What the full names of Milvus' methods begin with."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call that arrived.

    Args:
        method: Its name, e.g. `Search`; in full if it is not Milvus', e.g.
            `/grpc.health.v1.Health/Check`.
        metadata: What came along with it; credentials are masked.
        request: The encoded message.
        token: The credentials, an API key or `user:password`; `None` if none came along. It equals
            their text, and shows it only to those who call its `reveal()`.
    """

    method: str
    metadata: Mapping[str, str | bytes]
    request: bytes = field(repr=False)
    token: Secret | None


def call_of(method: str, metadata: Any, request: bytes) -> Call:
    """Return a call as it is remembered.

    Args:
        method: The method's full name.
        metadata: Pairs of keys and values, as gRPC has them.
        request: The encoded message.

    Example:
        >>> call = call_of(SERVICE + "Search", [("authorization", "cm9vdDpNaWx2dXM=")], b"")
        >>> call.method, call.metadata["authorization"], call.token, call.token == "root:Milvus"
        ('Search', '********', <hidden>, True)
    """
    raw = dict(metadata)
    shown = {key: MASK if key == AUTHORIZATION else value for key, value in raw.items()}
    token = _decoded(raw[AUTHORIZATION]) if raw.get(AUTHORIZATION) else None
    return Call(short_name(method), shown, request, token)


def short_name(method: str) -> str:
    """Return a method's name, without the service if that is Milvus'."""
    return method.removeprefix(SERVICE)


def _decoded(authorization: str) -> Secret:
    """Return the credentials that a call carries; Milvus' clients encode them."""
    try:
        return Secret(base64.b64decode(authorization, validate=True).decode())
    except ValueError:
        return Secret(authorization)
