"""How a connection of an event loop follows what is configured for its alias."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from zconfig.aio.flight import still_busy
from zconfig.aio.ground import Ground
from zconfig.aio.opening import prove
from zconfig.channel.line import Line
from zconfig.connection import reports
from zconfig.connection.renewal import BETWEEN_RENEWALS_S, PAUSES_S, is_transient
from zconfig.errors import ClosedError, ZConfigError
from zconfig.registry.announce import rotation_refused
from zconfig.registry.reload import reopens
from zconfig.spec import ConnectionSpec, differences

if TYPE_CHECKING:
    from zconfig.aio.lifecycle import AsyncLifecycle


class Following:
    """Takes up what is configured: at once, after a proof, or by opening the connection anew.

    A reload, or code, may change that in any thread. It is looked at before each use, which costs
    no more than a look into a dictionary.

    Args:
        lifecycle: The connection.
        ground: What it stands on.
    """

    def __init__(self, lifecycle: AsyncLifecycle, ground: Ground) -> None:
        self._lifecycle = lifecycle
        self._ground = ground
        self._heeded = ground.configured(lifecycle.alias)
        self._changing = asyncio.Lock()
        self._renewed_at = float("-inf")
        self._is_unsettled = False
        self._renewing: asyncio.Task[None] | None = None
        self._rereading: asyncio.Task[bool] | None = None

    @property
    def is_behind(self) -> bool:
        """Whether something else is configured than was heeded last."""
        return self._ground.configured(self._lifecycle.alias) is not self._heeded

    async def catch_up(self, timeout_s: float) -> None:
        """Take up what is configured now; one task does so for all.

        Args:
            timeout_s: Seconds that the caller has.

        Raises:
            ServerSilentError: That takes longer.
            ClosedError: Nothing is configured any more, and so it was closed.
        """
        if not self.is_behind:
            return
        try:
            async with asyncio.timeout(timeout_s), self._changing:
                await self._heed(self._ground.configured(self._lifecycle.alias))
        except TimeoutError:
            pass
        else:
            return
        raise still_busy(self._lifecycle.spec)

    async def renew(self, line: Line, timeout_s: float | None = None) -> Line | None:
        """Return a line to make a call on again whose credentials were refused on this one.

        It has newer credentials. Where there are such, but the server went away before it could
        say what it thinks of them, it is the same line: the call itself will tell.

        Their source is read again, by one task for all, which goes on, for the next call, where
        those that wait for it have no more time; where nothing new was found, not again at once.

        Args:
            line: What the call was made on.
            timeout_s: Seconds to wait.
        """
        refused_at, renewing = time.monotonic(), self._renewing
        is_over = renewing is None or renewing.done()
        if is_over and not self._differs(line) and self._may_renew(refused_at):
            renewing = self._renewing = asyncio.create_task(self._renew())
        if renewing:
            await asyncio.wait([renewing], timeout=timeout_s)
        if not self._differs(line):
            return line if self._is_unsettled else None
        self._renewed_at = float("-inf")
        return self._lifecycle.line

    async def is_outdated(self, refused: ConnectionSpec, timeout_s: float) -> bool:
        """Tell whether other credentials are configured than those a connect was refused with.

        Their source is read again: they may have been replaced since the configuration was read.

        Args:
            refused: What was refused.
            timeout_s: Seconds to wait; what is found later is configured for the next connect.
        """
        if self.is_behind or self._lifecycle.spec.credentials != refused.credentials:
            return True
        rereading = self._rereading
        if rereading is None or rereading.done():
            rereading = self._rereading = asyncio.create_task(self._ground.reread(refused))
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
        self._is_unsettled, before = False, self._lifecycle.line
        try:
            self._is_unsettled = is_transient(await self._take_up_newer())
        finally:
            if self._lifecycle.line is before:
                self._renewed_at = time.monotonic()

    async def _heed(self, wanted: ConnectionSpec | None) -> None:
        if wanted is None and self._heeded is not None:
            self._lifecycle.close()
            raise self._lifecycle.closed_error()
        if wanted is not None and wanted != self._lifecycle.spec:
            if not self._lifecycle.is_open or reopens(self._lifecycle.spec, wanted):
                self._lifecycle.reopen_with(wanted)
            elif await self._rotate(wanted):
                wanted = self._ground.configured(self._lifecycle.alias)
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
        newer = await self._ground.newer(self._lifecycle.spec)  # not locked: it may take long
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
            self._ground.keep(self._lifecycle.spec)
            if is_last:
                self._ground.emit(rotation_refused(self._lifecycle.alias, error))
            return error
        return None

    async def _take_up(self, spec: ConnectionSpec) -> None:
        lifecycle, link, started = self._lifecycle, self._lifecycle.held, time.monotonic()
        if link is None:
            raise lifecycle.closed_error()
        server, is_rotated = lifecycle.server, spec.credentials != lifecycle.spec.credentials
        lifecycle.watch.begin(spec)  # what is refused is not tried again by itself
        if is_rotated:
            server = await prove(link, spec, spec.timeout_s)
        lifecycle.switch(link, spec, server)
        if is_rotated:
            self._ground.emit(reports.rotated(spec, started))

    def _is_newer(self, spec: ConnectionSpec) -> bool:
        """Tell whether a specification has other credentials than what is open, and no more."""
        lifecycle = self._lifecycle
        return lifecycle.is_open and differences(lifecycle.spec, spec) == ("credentials",)

    def _differs(self, line: Line) -> bool:
        current = self._lifecycle.line
        return current is not None and current.authorization != line.authorization

    def _may_renew(self, refused_at: float) -> bool:
        if self._is_unsettled:
            return self._renewed_at < refused_at
        return time.monotonic() - self._renewed_at > BETWEEN_RENEWALS_S
