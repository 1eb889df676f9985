"""A unary call on an event loop, which may have to wait for a connection, and be made again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any, NamedTuple

import grpc


class Reply(NamedTuple):
    """What a call came to.

    Args:
        response: The response.
        call: The call of gRPC's that brought it; `None` where an interceptor made it up.
    """

    response: Any
    call: Any


def cancelled_error(details: str) -> grpc.aio.AioRpcError:
    """Return the error of a call that was cancelled by us."""
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, nothing, nothing, details)


def with_reason(error: grpc.aio.AioRpcError, why: str) -> grpc.aio.AioRpcError:
    """Return an error of gRPC's that says more, in the details that everybody shows."""
    details = "; ".join(filter(None, (error.details(), why)))
    return grpc.aio.AioRpcError(
        error.code(),
        _plain(error.initial_metadata()),
        _plain(error.trailing_metadata()),
        details,
        error.debug_error_string(),
    )


class UnaryUnaryCall(grpc.aio.UnaryUnaryCall[Any, Any]):
    """A call under way. Cancelling who awaits it cancels the call, as with gRPC's own.

    Args:
        responding: Makes the call.
        deadline: The monotonic instant it must have ended at, if there is one.
    """

    def __init__(self, responding: Coroutine[Any, Any, Reply], deadline: float | None) -> None:
        self._deadline = deadline
        self._task = asyncio.get_running_loop().create_task(responding)
        self._task.add_done_callback(_retrieve_exception)

    def __await__(self) -> Generator[Any, None, Any]:
        reply = yield from self._task.__await__()
        return reply.response

    def cancel(self) -> bool:
        """Cancel the call; tell whether it was still under way."""
        return self._task.cancel()

    def cancelled(self) -> bool:
        """Return whether it was cancelled."""
        return self._task.cancelled()

    def done(self) -> bool:
        """Return whether it has ended."""
        return self._task.done()

    def time_remaining(self) -> float | None:
        """Return the seconds that are left of its timeout, if it has one."""
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.0)

    def add_done_callback(self, callback: Callable[[Any], Any]) -> None:
        """Have a function called with this call when it has ended."""
        self._task.add_done_callback(lambda _: callback(self))

    async def code(self) -> grpc.StatusCode:
        """Return the status, once it has ended."""
        end = await self._end()
        return grpc.StatusCode.OK if isinstance(end, Reply) else end.code()

    async def details(self) -> str:
        """Return what was said beside the status, once it has ended."""
        end = await self._end()
        return "" if isinstance(end, Reply) else end.details() or ""

    async def debug_error_string(self) -> str | None:
        """Return what gRPC says of a failure, once it has ended."""
        end = await self._end()
        return "" if isinstance(end, Reply) else end.debug_error_string()

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Return what came before the response."""
        return await self._metadata(lambda it: it.initial_metadata())

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        """Return what came after the response."""
        return await self._metadata(lambda it: it.trailing_metadata())

    async def wait_for_connection(self) -> None:
        """Wait until the server has answered; raises as awaiting the call does."""
        await asyncio.shield(self._task)

    async def _metadata(self, of: Callable[[Any], Any]) -> grpc.aio.Metadata:
        end = await self._end()
        if isinstance(end, grpc.aio.AioRpcError):
            return _plain(of(end))
        return _plain(await of(end.call)) if end.call else grpc.aio.Metadata()

    async def _end(self) -> Reply | grpc.aio.AioRpcError:
        """Return how it ended; what is no gRPC error is raised."""
        try:
            return await asyncio.shield(self._task)
        except grpc.aio.AioRpcError as error:
            return error
        except asyncio.CancelledError:
            if not self._task.cancelled():
                raise
        return cancelled_error("cancelled by the caller")


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    """Look at a failure, lest asyncio complain where nobody awaits the call."""
    if not task.cancelled():
        task.exception()


def _plain(metadata: Any) -> grpc.aio.Metadata:
    """Return metadata for what is `None` where there is none."""
    return grpc.aio.Metadata() if metadata is None else metadata


async def await_call(call: Any) -> Reply:
    """Wait for a call of gRPC's.

    Raises:
        grpc.aio.AioRpcError: It failed, or its channel was closed meanwhile: then gRPC says to
            who waits that he was cancelled, which he was not.
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
    """Make a call through interceptors, the first of them outermost, as gRPC does.

    Args:
        interceptors: What to pass.
        details: What the call is made with.
        request: What is asked.
        make: Makes the call, behind the last of them.
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
