"""The first words of HTTP/2, and what comes back instead."""

from __future__ import annotations

import contextlib
import ssl
from enum import StrEnum
from typing import TYPE_CHECKING

from zconfig.diagnosis.tls import TLSStream, tls_failure
from zconfig.diagnosis.verdict import StageError
from zconfig.errors import NotHTTP2Error, ServerSilentError, TLSServerError

if TYPE_CHECKING:
    from zconfig.diagnosis.network import Stream

# RFC 9113: the client's preface is this text and a SETTINGS frame, here an empty one; a frame
# starts with three bytes of length and one of type.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
_FRAME_HEADER = 9
_SETTINGS = 4
_TLS_ALERT = b"\x15"


class Ending(StrEnum):
    """How a peer left that said nothing."""

    CLOSED = "closed"
    RESET = "reset"


def greet(stream: Stream | TLSStream) -> Ending | None:
    """Send the preface; a server of HTTP/2 answers it with its SETTINGS.

    Args:
        stream: A connection, with or without TLS.

    Returns:
        `None` if it does, or how the peer left without a word.

    Raises:
        StageError: If it is silent, or answers with anything else.
    """
    answer, ending = _exchange(stream)
    if answer.startswith(_TLS_ALERT):
        raise StageError(TLSServerError, "a TLS alert came back")
    if len(answer) == _FRAME_HEADER and answer[3] == _SETTINGS:
        return None
    if answer:
        seen = "HTTP/1" if answer.startswith(b"HTTP/1") else "bytes of another protocol"
        raise StageError(NotHTTP2Error, f"the server answered with {seen}")
    return ending


def _exchange(stream: Stream | TLSStream) -> tuple[bytes, Ending]:
    """Send the preface; return the first frame's header, or what came instead, and the end."""
    # Whoever hangs up before we have written may have said why: read in any case.
    with contextlib.suppress(OSError):
        stream.send(_PREFACE)
    answer = b""
    try:
        while len(answer) < _FRAME_HEADER and (more := stream.receive(_FRAME_HEADER - len(answer))):
            answer += more
    except TimeoutError:
        if not answer:
            raise StageError(ServerSilentError, "no answer to the HTTP/2 preface") from None
    except ssl.SSLError as error:
        raise tls_failure(error) from None
    except ConnectionError:
        return answer, Ending.RESET
    return answer, Ending.CLOSED
