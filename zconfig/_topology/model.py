"""The members of a global cluster, and which of them takes writes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, TypeVar

from zconfig._diagnosis.model import StageError
from zconfig._endpoint import Endpoint, EndpointError, parse_uri
from zconfig.errors import MalformedTopologyError, NoPrimaryError, TopologyRefusedError


@dataclass(frozen=True, slots=True)
class Member:
    """One cluster of a global cluster.

    Args:
        cluster_id: Its identifier.
        endpoint: Where it is reached; always with TLS.
        readable: Whether it takes reads.
        writable: Whether it takes writes, as the primary alone does.
    """

    cluster_id: str
    endpoint: Endpoint
    readable: bool
    writable: bool


@dataclass(frozen=True, slots=True)
class Topology:
    """The members of a global cluster at one time.

    Args:
        version: Grows with each change.
        members: Exactly one of them is writable.
    """

    version: int
    members: tuple[Member, ...]

    @property
    def primary(self) -> Member:
        """The member that takes writes."""
        return next(member for member in self.members if member.writable)


T = TypeVar("T")

_READABLE, _WRITABLE = 1, 2
_WHOLE_NUMBER = re.compile(r"[0-9]{1,40}")


def parse_topology(body: bytes) -> Topology:
    """Read the answer to the request for a topology.

    Args:
        body: What came back, as it came.

    Raises:
        StageError: It says that the request failed, is no topology, or has no single primary. Its
            detail repeats what came from outside: mask it before it is shown.

    Example:
        >>> body = b'''{"code": 0, "data": {"version": "7", "clusters": [
        ...     {"clusterId": "in01-a", "endpoint": "https://a.example", "capability": 3},
        ...     {"clusterId": "in01-b", "endpoint": "b.example:19530", "capability": 1}]}}'''
        >>> topology = parse_topology(body)
        >>> topology.version, topology.primary.cluster_id
        (7, 'in01-a')
    """
    answer = _typed(dict, _json(body), "the answer")
    # Left out it means success, to pymilvus as well: some encoders leave out what is zero.
    if code := _typed(int, answer.get("code", 0), "code"):
        raise StageError(TopologyRefusedError, f"code {code}: {_message(answer)}")
    data = _typed(dict, answer.get("data"), "data")
    clusters = _typed(list, data.get("clusters"), "data.clusters")
    members = tuple(_member(f"cluster {number}", it) for number, it in enumerate(clusters, 1))
    writable = sum(member.writable for member in members)
    if writable != 1:
        raise StageError(NoPrimaryError, f"{writable} of {len(members)} members are writable")
    return Topology(_version(data.get("version")), members)


def message_of(body: bytes) -> str:
    """Return the message in an answer, or an empty text if it has none.

    Args:
        body: What came back, as it came.

    Example:
        >>> message_of(b'{"code": 80001, "message": "the token is illegal"}')
        'the token is illegal'
        >>> message_of(b"<html>")
        ''
    """
    try:
        return _message(_typed(dict, _json(body), "the answer"))
    except StageError:
        return ""


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        pass
    raise StageError(MalformedTopologyError, "the answer is not JSON")


def _message(answer: dict[str, Any]) -> str:
    message = answer.get("message")
    return message if isinstance(message, str) else ""


def _member(name: str, value: Any) -> Member:
    cluster = _typed(dict, value, name)
    cluster_id = _typed(str, cluster.get("clusterId"), f"clusterId of {name}")
    endpoint = _typed(str, cluster.get("endpoint"), f"endpoint of {name}")
    capability = _typed(int, cluster.get("capability"), f"capability of {name}")
    return Member(
        cluster_id,
        _endpoint(name, endpoint),
        readable=bool(capability & _READABLE),
        writable=bool(capability & _WRITABLE),
    )


def _endpoint(name: str, text: str) -> Endpoint:
    try:
        endpoint = parse_uri(text if "://" in text else f"https://{text}")
        # The token goes there: an answer must not make us send it in plaintext.
        seen = "" if endpoint.secure else "it is without TLS"
    except EndpointError as error:
        seen = error.message
    if seen:
        raise StageError(MalformedTopologyError, f"endpoint of {name}: {seen}")
    return endpoint


def _version(value: Any) -> int:
    text = str(value) if isinstance(value, int | str) else ""
    if not _WHOLE_NUMBER.fullmatch(text):
        raise StageError(MalformedTopologyError, "data.version is not a whole number")
    return int(text)


_KINDS = {dict: "an object", list: "an array", str: "a text", int: "a whole number"}


def _typed(kind: type[T], value: Any, name: str) -> T:
    # To Python a truth value is a number, too.
    if isinstance(value, kind) and not isinstance(value, bool):
        return value
    raise StageError(MalformedTopologyError, f"{name} is not {_KINDS[kind]}")
