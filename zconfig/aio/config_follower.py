"""How a connection of an event loop follows what is configured for its alias."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from zconfig._channel.bound_channel import BoundChannel
from zconfig._connection import event_factories
from zconfig._connection.credentials import BETWEEN_RENEWALS_S, PAUSES_S, is_transient
from zconfig._registry.config_events import rotation_refused
from zconfig._registry.reload import reopens
from zconfig._spec import ConnectionSpec, differences
from zconfig.aio.connector import still_busy, verify_async
from zconfig.aio.loop_context import LoopContext
from zconfig.errors import ClosedError, ZConfigError

if TYPE_CHECKING:
    from zconfig.aio.managed import AsyncManagedConnection


class ConfigFollower:
    """Takes up what is configured: at once, after a proof, or by opening the connection anew.

    A reload, or code, may change that in any thread. It is looked at before each use, which costs
    no more than a look into a dictionary.

    Args:
        managed: The connection.
        ground: What it stands on.
    """

    def __init__(self, managed: AsyncManagedConnection, ground: LoopContext) -> None:
        self._managed = managed
        self._ground = ground
        self._heeded = ground.configured(managed.alias)
        self._changing = asyncio.Lock()
        self._renewed_at = float("-inf")
        self._is_unsettled = False
        self._renewing: asyncio.Task[None] | None = None
        self._reloader: asyncio.Task[bool] | None = None

    @property
    def is_stale(self) -> bool:
        """Whether something else is configured than was heeded last."""
        return self._ground.configured(self._managed.alias) is not self._heeded

    async def sync_with_config(self, timeout_s: float) -> None:
        """Take up what is configured now; one task does so for all.

        Args:
            timeout_s: Seconds that the caller has.

        Raises:
            ServerSilentError: That takes longer.
            ClosedError: Nothing is configured any more, and so it was closed.
        """
        if not self.is_stale:
            return
        try:
            async with asyncio.timeout(timeout_s), self._changing:
                await self._heed(self._ground.configured(self._managed.alias))
        except TimeoutError:
            pass
        else:
            return
        raise still_busy(self._managed.spec)

    async def renew(
        self, bound: BoundChannel, timeout_s: float | None = None
    ) -> BoundChannel | None:
        """Return a line to make a call on again whose credentials were refused on this one.

        It has newer credentials. Where there are such, but the server went away before it could
        say what it thinks of them, it is the same line: the call itself will tell.

        Their source is read again, by one task for all, which goes on, for the next call, where
        those that wait for it have no more time; where nothing new was found, not again at once.

        Args:
            bound: What the call was made on.
            timeout_s: Seconds to wait.
        """
        refused_at, renewing = time.monotonic(), self._renewing
        is_over = renewing is None or renewing.done()
        if is_over and not self._differs(bound) and self._may_renew(refused_at):
            renewing = self._renewing = asyncio.create_task(self._renew())
        if renewing:
            await asyncio.wait([renewing], timeout=timeout_s)
        if not self._differs(bound):
            return bound if self._is_unsettled else None
        self._renewed_at = float("-inf")
        return self._managed.bound

    async def is_outdated(self, refused: ConnectionSpec, timeout_s: float) -> bool:
        """Tell whether other credentials are configured than those a connect was refused with.

        Their source is read again: they may have been replaced since the configuration was read.

        Args:
            refused: What was refused.
            timeout_s: Seconds to wait; what is found later is configured for the next connect.
        """
        if self.is_stale or self._managed.spec.credentials != refused.credentials:
            return True
        rereading = self._reloader
        if rereading is None or rereading.done():
            rereading = self._reloader = asyncio.create_task(self._ground.reread(refused))
        done, _ = await asyncio.wait([rereading], timeout=timeout_s)
        return bool(done) and rereading.result()

    async def reread(self, is_due: Callable[[], bool]) -> None:
        """Read the source of the credentials again, and take up those that are new.

        Args:
            is_due: Whether it is still wanted; asked again once they are read.
        """
        if is_due():
            await self._reread(is_due)

    async def _renew(self) -> None:
        self._is_unsettled, before = False, self._managed.bound
        try:
            self._is_unsettled = is_transient(await self._take_up_newer())
        finally:
            if self._managed.bound is before:
                self._renewed_at = time.monotonic()

    async def _heed(self, wanted: ConnectionSpec | None) -> None:
        if wanted is None and self._heeded is not None:
            self._managed.close()
            raise self._managed.closed_error()
        if wanted is not None and wanted != self._managed.spec:
            if not self._managed.is_open or reopens(self._managed.spec, wanted):
                self._managed.replace_spec(wanted)
            elif await self._rotate(wanted):
                wanted = self._ground.configured(self._managed.alias)
        self._heeded = wanted

    async def _take_up_newer(self) -> ZConfigError | None:
        """Take up newer credentials; return why that was not possible."""
        for pause_s in PAUSES_S:
            failure = await self._reread(is_last=False)
            if failure is None or is_transient(failure):
                return failure
            await asyncio.sleep(pause_s)
        return await self._reread()

    async def _reread(
        self, is_due: Callable[[], bool] = lambda: True, *, is_last: bool = True
    ) -> ZConfigError | None:
        """Read the source again; return why there are new credentials that were not taken up."""
        newer = await self._ground.newer(self._managed.spec)  # not locked: it may take long
        async with self._changing:
            if not newer or not is_due() or not self._is_newer(newer):
                return None
            failure = await self._rotate(newer, is_last=is_last)
            if failure is None:
                self._ground.keep(newer)
                self._heeded = newer
            return failure

    async def _rotate(self, spec: ConnectionSpec, *, is_last: bool = True) -> ZConfigError | None:
        """Take up a specification that needs no other channel; return why that was not possible.

        New credentials are taken up once the server has accepted them. Until then, and if it does
        not, the old ones are in use, and are what is configured.

        Args:
            spec: The specification.
            is_last: Whether a refusal is reported: it is not tried again at once.
        """
        try:
            await self._take_up(spec)
        except ClosedError as error:
            return error
        except ZConfigError as error:
            self._ground.keep(self._managed.spec)
            if is_last:
                self._ground.publish(rotation_refused(self._managed.alias, error))
            return error
        return None

    async def _take_up(self, spec: ConnectionSpec) -> None:
        managed, transport, started = (
            self._managed,
            self._managed.transport_if_open,
            time.monotonic(),
        )
        if transport is None:
            raise managed.closed_error()
        server, is_rotated = managed.server, spec.credentials != managed.spec.credentials
        managed.monitor.begin(spec)  # what is refused is not tried again by itself
        if is_rotated:
            server = await verify_async(transport, spec, spec.timeout_s)
        managed.switch(transport, spec, server)
        if is_rotated:
            self._ground.publish(event_factories.rotated(spec, started))

    def _is_newer(self, spec: ConnectionSpec) -> bool:
        """Tell whether a specification has other credentials than what is open, and no more."""
        managed = self._managed
        return managed.is_open and differences(managed.spec, spec) == ("credentials",)

    def _differs(self, bound: BoundChannel) -> bool:
        current = self._managed.bound
        return current is not None and current.authorization != bound.authorization

    def _may_renew(self, refused_at: float) -> bool:
        if self._is_unsettled:
            return self._renewed_at < refused_at
        return time.monotonic() - self._renewed_at > BETWEEN_RENEWALS_S
