"""Looks after an open connection: is the server there, is it the right one, who are we?"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from zconfig.channel.milvus import Server, converse, greet
from zconfig.connection.link import Link, make_link
from zconfig.connection.seam import Attempt
from zconfig.errors import ClosedError, ConnectError, RejectedCredentialsError
from zconfig.paths import anchored
from zconfig.spec import ConnectionSpec

if TYPE_CHECKING:
    from zconfig.connection.home import Home
    from zconfig.connection.lifecycle import Lifecycle

Stamp = dict[str, tuple[int, int, int]]
"""The inode, modification time and size of each file that is there."""

LOOK_S = 5.0
_BETWEEN_LOOKS_S = 1.0
_BETWEEN_LOOKS_AT_THE_PERMANENT_S = 30.0


class Watch:
    """Notices what happens to a connection while nobody calls, or because a call failed.

    Args:
        lifecycle: The connection.
        home: Where it belongs.
    """

    def __init__(self, lifecycle: Lifecycle, home: Home) -> None:
        self._lifecycle = lifecycle
        self._home = home
        self._stamp: Stamp = {}
        self._is_doubted = False
        self._next_look_at = 0.0

    @property
    def alias(self) -> str:
        """The connection's name."""
        return self._lifecycle.alias

    def begin(self, spec: ConnectionSpec) -> None:
        """Begin anew, with the credentials of a specification."""
        self._stamp = credentials_stamp(spec)
        self._next_look_at = 0.0

    def doubt(self) -> bool:
        """Hear that a call got no answer; tell whether that is news."""
        is_news, self._is_doubted = not self._is_doubted, True
        return is_news

    def is_due(self) -> bool:
        """Tell whether it may be lost, back, moved, or have new credentials. It makes no call."""
        lifecycle = self._lifecycle
        link, line = lifecycle.held, lifecycle.line
        if link is None or line is None:
            return False
        if self._has_new_files() or link.is_due(time.monotonic()):
            return True
        is_failing = bool(line.core.is_failing())
        if not lifecycle.is_lost:
            return is_failing or self._is_doubted
        # gRPC dials by itself, and there is no use in asking before it has got through; but
        # another server may have become the one to ask.
        return time.monotonic() >= self._next_look_at and (link.follows or not is_failing)

    def look(self) -> None:
        """Find out, and take up what is found."""
        is_doubted, self._is_doubted = self._is_doubted, False
        self._take_up_new_files()
        link, line = self._lifecycle.held, self._lifecycle.line
        if link is None or line is None:
            return
        spec = self._lifecycle.spec
        timeout_s = min(spec.timeout_s, LOOK_S)
        try:
            link = self._followed(link, is_doubted=is_doubted)
            server = prove(link, spec, timeout_s)
        except ConnectError as error:
            is_refused = isinstance(error, RejectedCredentialsError)
            if not (is_refused and self._lifecycle.renewal.renew(line)):
                self._lose(link, error)
        except ClosedError:
            return
        else:
            self._lifecycle.regain(link, server)

    def _take_up_new_files(self) -> None:
        if not self._has_new_files():
            return
        stamp = credentials_stamp(self._lifecycle.spec)
        # A reload may have read them meanwhile: what it was refused with is not tried once more.
        self._home.renew_if(self._has_new_files, self._lifecycle)
        self._home.deliver(self.alias)
        self._stamp = stamp

    def _has_new_files(self) -> bool:
        stamp = credentials_stamp(self._lifecycle.spec)
        return any(self._stamp.get(path) != seen for path, seen in stamp.items())

    def _followed(self, link: Link, *, is_doubted: bool) -> Link:
        """Return a link to the server that is the primary now, which may be the same."""
        spec, started = self._lifecycle.spec, time.monotonic()
        attempt = Attempt(spec, started, started + min(spec.timeout_s, LOOK_S))
        if not link.has_moved(attempt, at_once=is_doubted or self._lifecycle.is_lost):
            return link
        new = make_link(attempt, link.follower)
        try:
            server = prove(new, spec, attempt.left_s)
        except BaseException:  # Ctrl-C too must not leave the new channels behind
            new.release()
            raise
        if not self._lifecycle.move(link, new, server, started):
            raise ClosedError(spec.alias)
        return new

    def _lose(self, link: Link, failure: ConnectError) -> None:
        pause_s = _BETWEEN_LOOKS_AT_THE_PERMANENT_S if failure.permanent else _BETWEEN_LOOKS_S
        self._next_look_at = time.monotonic() + pause_s
        self._lifecycle.lose(link, failure)


def prove(link: Link, spec: ConnectionSpec, timeout_s: float) -> Server:
    """Introduce ourselves over channels that are there already.

    Raises:
        ConnectError: The server cannot be reached, or does not accept us.
        ClosedError: The channels were closed.
    """
    line, now = link.line(spec), time.monotonic()
    attempt = link.aim(Attempt(spec, now, now + timeout_s))
    return attempt.run(lambda left_s: converse(line.ask, greet(spec), left_s))


def credentials_stamp(spec: ConnectionSpec) -> Stamp:
    """Return what changes when a file is rewritten that the credentials came from.

    Links are followed, so that Kubernetes' swap of a whole directory shows. Paths are those of the
    time when they were read, wherever the process has gone since.
    """
    origins = [spec.origins[name] for name in ("token", "user", "password") if name in spec.origins]
    paths = {path for origin in origins for path in (origin.path, origin.via) if path}
    stamp = {}
    for path in paths:
        with suppress(OSError):
            status = Path(anchored(path, spec.directory)).stat()
            stamp[path] = status.st_ino, status.st_mtime_ns, status.st_size
    return stamp
