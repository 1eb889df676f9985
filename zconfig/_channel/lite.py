"""Milvus Lite: one embedded server per path and process, shared by its aliases.

milvus-lite keeps its servers in a manager, which `MilvusClient("./app.db")` of pymilvus uses too.
zconfig starts its servers there, so that both share one server: only one can open a path. As in
milvus-lite 3.0, 3.1.0 and 3.2.2, `milvus_lite/server_manager.py`.
"""

from __future__ import annotations

import atexit
import functools
import logging
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zconfig._channel.pymilvus_import import import_without_side_effects
from zconfig._value import Value, value
from zconfig.errors import MissingExtraError, install_command

if TYPE_CHECKING:
    from collections.abc import Iterator

_ELSEWHERE = "set another path in {uri}"


class LiteError(Exception):
    """Milvus Lite could not be started on a path.

    Args:
        reason: The cause, in lower case.
        remedy: One action; `{uri}` in it is replaced by the variable or argument of the path.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        self.reason = reason
        self.remedy = remedy
        super().__init__(reason, remedy)

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}"


class LiteLockedError(LiteError):
    """Another process has the path open, perhaps temporarily."""

    def __init__(self) -> None:
        super().__init__("it is open in another process", f"close it there, or {_ELSEWHERE}")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Lease:
    """A lease on an embedded server, which runs until its last lease is released.

    Args:
        address: The server's gRPC target, e.g. `127.0.0.1:41083`.
    """

    address: str
    _server: _Server = field(repr=False)

    def release(self) -> None:
        """Release the lease; does nothing the second time, or in a forked child."""
        self._server.take_back(self)


def acquire(path: Path) -> Lease:
    """Return a lease on the embedded server of a path; start the server if it does not run.

    Args:
        path: The database, e.g. `app.db`; its parent directory must exist.

    Raises:
        LiteLockedError: Another process has the path open.
        LiteError: The server does not start.
        MissingExtraError: milvus-lite, or the pymilvus that it needs, is not installed.

    Examples:
        >>> lease = acquire(Path("app.db"))  # doctest: +SKIP
        >>> grpc.insecure_channel(lease.address)  # doctest: +SKIP
        >>> lease.release()  # doctest: +SKIP
    """
    # The process ID hides the parent's servers from a forked child. `setdefault` is atomic, so no
    # lock can be left locked by a fork.
    key = os.getpid(), os.path.realpath(path)
    return _servers.setdefault(key, _Server(path.absolute())).lease()


class _Server:
    """The embedded server of one path, with its leases."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pid = os.getpid()
        self._lock = threading.Lock()  # per path, so that other paths start in parallel
        self._leases: set[Lease] = set()
        self._running: _Running | None = None

    def lease(self) -> Lease:
        with self._lock:
            if self._running is None:
                self._running = _start(self._path)
            lease = Lease(self._running.address, self)
            self._leases.add(lease)
        return lease

    def take_back(self, lease: Lease) -> None:
        if self._pid != os.getpid():
            return  # the server belongs to the parent
        with self._lock:
            self._leases.discard(lease)
            if self._running and not self._leases:
                self._running.stop()
                self._running = None


_servers: dict[tuple[int, str], _Server] = {}


@value
class _Running(Value):
    """A running server.

    Args:
        address: Its gRPC target.
        name: Its path in the manager.
        ours: Whether zconfig started it; a server that the application started is left running.
    """

    address: str
    name: str
    ours: bool

    def stop(self) -> None:
        if self.ours:
            _manager().release_server(self.name)


def _start(path: Path) -> _Running:
    _check_place(path)
    manager = _manager()
    known = _known_name(manager, path)
    name = known or str(path)
    with _swallowed_error() as swallowed:
        uri = manager.start_and_get_uri(name)
    if uri is None:
        raise _explained(swallowed.error)
    return _Running(uri.removeprefix("http://"), name, ours=known is None)


def _check_place(path: Path) -> None:
    place = Path(os.path.realpath(path))
    try:
        parent_exists, is_file = place.parent.is_dir(), place.is_file()
    except OSError as error:
        raise _explained(error) from error
    # milvus-lite would create missing parents, and so an empty database at a misspelt path.
    if not parent_exists:
        raise LiteError(f"the directory {place.parent} does not exist", "create that directory")
    if is_file:
        raise LiteError(
            "the path is a file, the format of milvus-lite 2; milvus-lite 3 needs a directory",
            _ELSEWHERE,
        )


@functools.cache
def _manager() -> Any:
    try:
        with import_without_side_effects():
            # The manager imports it at a start, and would hide a failure of the import.
            import_module("milvus_lite.adapter.grpc.server")
            from milvus_lite.server_manager import server_manager_instance as manager
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        what = "milvus-lite 3" if package == "milvus_lite" else package
        raise MissingExtraError(what, "lite") from error
    except Exception as error:  # an import of a library may raise anything
        reason = f"milvus-lite cannot be imported ({type(error).__name__}: {error})"
        raise LiteError(reason, f"run: {install_command('lite')}") from error
    # On exit, a forked child would write the parent's data and unlock its directory.
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=lambda: atexit.unregister(manager.release_all))
    return manager


def _known_name(manager: Any, path: Path) -> str | None:
    """Return the manager's name for a path that it has open; it does not resolve links."""
    real = os.path.realpath(path)
    names = list(manager._servers)  # noqa: SLF001 - there is no public API for it
    return next((name for name in names if os.path.realpath(name) == real), None)


class _Swallowed(logging.Filter):
    """Takes an error out of the log, where the manager writes it instead of raising it."""

    def __init__(self) -> None:
        super().__init__()
        self.error: BaseException | None = None
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        if threading.get_ident() != self._thread or not record.exc_info:
            return True
        self.error = record.exc_info[1]
        return False


@contextmanager
def _swallowed_error() -> Iterator[_Swallowed]:
    logger = logging.getLogger("milvus_lite.server_manager")
    swallowed = _Swallowed()
    logger.addFilter(swallowed)
    try:
        yield swallowed
    finally:
        logger.removeFilter(swallowed)


def _explained(error: BaseException | None) -> LiteError:
    if isinstance(error, PermissionError):
        return LiteError(f"no permission for {error.filename}", "make it writable for this user")
    if isinstance(error, OSError):
        return LiteError(f"{str(error.strerror).lower()}: {error.filename}", _ELSEWHERE)
    if error is None:
        reason = "it did not start, and the logger milvus_lite.server_manager is disabled"
        return LiteError(reason, "enable the logger to see the cause")

    from milvus_lite.exceptions import DataDirLockedError

    if isinstance(error, DataDirLockedError):
        return LiteLockedError()
    return LiteError(f"{type(error).__name__}: {error}", _ELSEWHERE)
