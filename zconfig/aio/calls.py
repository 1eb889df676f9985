"""Unary calls on an event loop, which may wait for a connection, and may be repeated."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, NamedTuple

import grpc


class Reply(NamedTuple):
    """The result of a call.

    Args:
        response: The response.
        call: The gRPC call; `None` if an interceptor returned the response.
    """

    response: Any
    call: Any


def cancelled_error(details: str) -> grpc.aio.AioRpcError:
    """Return the error of a cancelled call."""
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, nothing, nothing, details)


def with_reason(error: grpc.aio.AioRpcError, why: str) -> grpc.aio.AioRpcError:
    """Return a copy of a gRPC error with a reason added to its details."""
    details = "; ".join(filter(None, (error.details(), why)))
    return grpc.aio.AioRpcError(
        error.code(),
        _plain(error.initial_metadata()),
        _plain(error.trailing_metadata()),
        details,
        error.debug_error_string(),
    )


class UnaryUnaryCall(grpc.aio.UnaryUnaryCall[Any, Any]):
    """A call in progress. Cancelling the task that awaits it cancels the call, as in gRPC.

    Args:
        responding: The coroutine that makes the call.
        deadline: The monotonic instant at which the call times out, if any.
    """

    def __init__(self, responding: Coroutine[Any, Any, Reply], deadline: float | None) -> None:
        self._deadline = deadline
        self._task = asyncio.get_running_loop().create_task(responding)
        self._task.add_done_callback(_retrieve_exception)

    def __await__(self) -> Generator[Any, None, Any]:
        reply = yield from self._task.__await__()
        return reply.response

    def cancel(self) -> bool:
        """Cancel the call; return whether it was still in progress."""
        return self._task.cancel()

    def cancelled(self) -> bool:
        """Return whether the call was cancelled."""
        return self._task.cancelled()

    def done(self) -> bool:
        """Return whether the call is done."""
        return self._task.done()

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline, if there is one."""
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    def add_done_callback(self, callback: Callable[[Any], Any]) -> None:
        """Call a function with this call when it is done."""
        self._task.add_done_callback(lambda _: callback(self))

    async def code(self) -> grpc.StatusCode:
        """Return the status, once the call is done."""
        end = await self._end()
        return grpc.StatusCode.OK if isinstance(end, Reply) else end.code()

    async def details(self) -> str:
        """Return the details of the status, once the call is done."""
        end = await self._end()
        return "" if isinstance(end, Reply) else end.details() or ""

    async def debug_error_string(self) -> str | None:
        """Return gRPC's description of a failure, once the call is done."""
        end = await self._end()
        return "" if isinstance(end, Reply) else end.debug_error_string()

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Return the initial metadata of the server."""
        return await self._metadata(lambda it: it.initial_metadata())

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        """Return the trailing metadata of the server."""
        return await self._metadata(lambda it: it.trailing_metadata())

    async def wait_for_connection(self) -> None:
        """Wait until the call is done; raises as awaiting the call does."""
        await asyncio.shield(self._task)

    async def _metadata(self, of: Callable[[Any], Any]) -> grpc.aio.Metadata:
        end = await self._end()
        if isinstance(end, grpc.aio.AioRpcError):
            return _plain(of(end))
        return _plain(await of(end.call)) if end.call else grpc.aio.Metadata()

    async def _end(self) -> Reply | grpc.aio.AioRpcError:
        """Return the reply or the gRPC error of the call; other errors are raised."""
        try:
            return await asyncio.shield(self._task)
        except grpc.aio.AioRpcError as error:
            return error
        except asyncio.CancelledError:
            if not self._task.cancelled():
                raise
        return cancelled_error("cancelled by the caller")


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Retrieve the exception, so that asyncio does not log it if no task awaits the call."""
    if not task.cancelled():
        task.exception()


def _plain(metadata: Any) -> grpc.aio.Metadata:
    """Return the metadata, or empty metadata for `None`."""
    return grpc.aio.Metadata() if metadata is None else metadata


async def await_call(call: Any) -> Reply:
    """Wait for a gRPC call.

    Raises:
        grpc.aio.AioRpcError: The call failed, or its channel was closed meanwhile, for which gRPC
            raises `CancelledError` though the waiting task was not cancelled.
    """
    try:
        return Reply(await call, call)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
    raise cancelled_error("the channel was closed")


async def run_interceptors(
    interceptors: tuple[Any, ...],
    details: grpc.aio.ClientCallDetails,
    request: Any,
    make: Callable[[grpc.aio.ClientCallDetails, Any], UnaryUnaryCall],
) -> Reply:
    """Make a call through interceptors; the first one is the outermost, as in gRPC.

    Args:
        interceptors: The interceptors.
        details: The arguments of the call.
        request: The request.
        make: The function that makes the call, after the last interceptor.
    """

    async def go_on(rest: tuple[Any, ...], details: Any, request: Any) -> Any:
        if not rest:
            return make(details, request)
        behind = partial(go_on, rest[1:])
        made = await rest[0].intercept_unary_unary(behind, details, request)
        is_call = isinstance(made, grpc.aio.UnaryUnaryCall)
        return made if is_call else UnaryUnaryCall(_wrap(made), None)

    call = await go_on(interceptors, details, request)
    return Reply(await call, call)


async def _wrap(response: Any) -> Reply:
    return Reply(response, None)
