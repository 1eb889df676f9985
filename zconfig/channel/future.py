"""A call that is waited for later, and asked again if its credentials had been replaced."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NoReturn

import grpc

from zconfig.errors import ZConfigError


class RenewableFuture:
    """A gRPC future whose call is made once more where newer credentials are found.

    Everything else is as with the future that gRPC gives.

    Args:
        call: The future that gRPC gave.
        again: Makes the call once more, given what it failed of; returns it when it has ended, or
            `None` if there is no use in that.
    """

    def __init__(self, call: Any, again: Callable[[grpc.RpcError], Any]) -> None:
        self._call = call
        self._again: Callable[[grpc.RpcError], Any] | None = again
        self._lock = threading.Lock()

    def result(self, timeout: float | None = None) -> Any:
        """Return the response, or raise why there is none; see `grpc.Future.result`."""
        try:
            return self._call.result(timeout)
        except grpc.RpcError as error:
            if not self._is_made_again(error):
                raise
        return self._call.result(timeout)

    def exception(self, timeout: float | None = None) -> Any:
        """Return what the call failed of, or `None`; see `grpc.Future.exception`."""
        error = self._call.exception(timeout)
        if isinstance(error, grpc.RpcError) and self._is_made_again(error):
            return self._call.exception(timeout)
        return error

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        """Have a function called with this future when it is done."""
        self._call.add_done_callback(lambda _: fn(self))

    def _is_made_again(self, error: grpc.RpcError) -> bool:
        """Make the call again, once; tell whether this or another thread has done so."""
        with self._lock:
            again, self._again = self._again, None
            call = again(error) if again else None
            self._call = call or self._call
            return self._call is not error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


class Failed:
    """A call that was refused, and could not be made again.

    Args:
        call: The call, which has ended.
        failure: Why it could not.
    """

    def __init__(self, call: Any, failure: ZConfigError) -> None:
        self._call = call
        self._failure = failure

    def result(self, _: float | None = None) -> NoReturn:
        """Raise why there is no response."""
        raise self._failure

    def exception(self, _: float | None = None) -> ZConfigError:
        """Return why there is no response."""
        return self._failure

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


grpc.Future.register(RenewableFuture)
grpc.Call.register(RenewableFuture)
