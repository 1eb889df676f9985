"""What befalls the application: each trouble is one method, and draws what it needs."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.soak.driver import Application
from benchmarks.soak.scene import GUEST, Scene
from benchmarks.soak.values import Child, End, Window
from benchmarks.soak.verdict import CLOSING_S, RECOVERY_S

KINDS = ("kill", "freeze", "cut", "rotate", "reload", "resize", "disconnect", "fork")
"""All troubles."""

_HARMLESS = ("rotate", "reload", "fork")
"""Those that may happen while a server is away, and must go well even then."""

_MOST_CHILDREN = 3
_TAKING_UP_S = 20.0
_BETWEEN_LOOKS_S = 0.1


@dataclass
class Troubles:
    """Makes trouble, and keeps a diary.

    Args:
        scene: What can be broken.
        application: Who is to bear it.
        draw: Where all choices come from.
        start: The monotonic instant that seconds are counted from.
        say: Takes a line of the log.
        longest_outage_s: Seconds that a server is away, at most.

    Attributes:
        windows: When calls may fail, in seconds.
        children: What became of forked children.
        faults: What went otherwise than it must.
        count: How many troubles there were, by kind.
    """

    scene: Scene
    application: Application
    draw: random.Random
    start: float
    say: Callable[[str], None]
    longest_outage_s: float
    windows: list[Window] = field(default_factory=list)
    children: list[Child] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    count: Counter[str] = field(default_factory=Counter)
    _away: str | None = None

    @property
    def second(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.start

    def make(self, kind: str) -> None:
        """Make one of `KINDS`."""
        self.count[kind] += 1
        getattr(self, f"_{kind}")()

    def calm(self) -> None:
        """Have everything configured as it was at first."""
        for alias in self.scene.resized:
            self._reopen(alias)
        self._invite(None)

    # --- outages ---------------------------------------------------------------------------

    def _kill(self) -> None:
        name = self._server()
        server = self.scene.servers[name]
        self._outage(f"kill {name}", name, server.kill, server.come_back)

    def _freeze(self) -> None:
        name = self._server()
        server = self.scene.servers[name]
        # A fork would not wait for calls that hang: nothing else happens meanwhile.
        self._outage(f"freeze {name}", name, server.freeze, server.thaw, ())

    def _cut(self) -> None:
        name = self._server()
        proxy = self.scene.proxies[name]
        self._outage(f"cut {name}", name, proxy.cut, proxy.heal)

    def _outage(
        self,
        what: str,
        name: str,
        begin: Callable[[], None],
        end: Callable[[], None],
        meanwhile: Sequence[str] = _HARMLESS,
    ) -> None:
        aliases = self.scene.aliases_of(name)
        began, lasts_s = self.second, self.draw.uniform(0.1, self.longest_outage_s)
        self.say(f"{began:7.1f} s  {what}, for {lasts_s:.1f} s")
        begin()
        self._away = name
        if meanwhile and self.draw.random() < 1 / 2:
            self.make(self.draw.choice(meanwhile))
        time.sleep(max(0.0, began + lasts_s - self.second))
        end()
        self._away = None
        ended = self.second
        self.windows.append(Window(what, frozenset(aliases), began, ended, End.FAILED, RECOVERY_S))
        self.say(f"{ended:7.1f} s  {name} is back")

    # --- changes ---------------------------------------------------------------------------

    def _rotate(self) -> None:
        name = self._server()
        self.say(f"{self.second:7.1f} s  rotate the password of {name}")
        self.scene.rotate(name)

    def _reload(self) -> None:
        """Add the guest, move it, or take it away."""
        places = {*self.scene.servers, None} - {self.scene.guest, self._away}
        self._invite(self.draw.choice(sorted(places, key=str)))

    def _invite(self, name: str | None) -> None:
        """Have the guest lead to a server, or to none, and see that it does."""
        self.say(f"{self.second:7.1f} s  reload, with the guest on {name}")
        self.scene.guest = name
        self.scene.write()
        changes = self.application.ask("reload")
        found = self.application.ask("visit", GUEST)
        wanted = self.scene.uri_of(name) if name else None
        if found != wanted:
            what = f"the guest is on {found} instead of {wanted}; {changes}"
            self.faults.append(f"reload at {self.second:.1f} s: {what}")

    def _resize(self) -> None:
        self._reopen(self.draw.choice(self.scene.resizable))

    def _reopen(self, alias: str) -> None:
        # Credentials that come with another change are left to the reload, which reaches an event
        # loop a moment later: calls of that moment would still be made with the old ones.
        self._wait_until_taken_up(alias)
        began = self.second
        self.say(f"{began:7.1f} s  resize the pool of {alias}, which reopens it")
        self.scene.resize(alias)
        self.application.ask("reload")
        self._closed(f"resize {alias}", alias, began)

    def _wait_until_taken_up(self, alias: str) -> None:
        deadline = self.second + _TAKING_UP_S
        while not self.application.ask("has_taken_up", alias, self.scene.secret_of(alias)):
            if self.second > deadline:
                self.faults.append(f"{alias} has not taken up its password for {_TAKING_UP_S} s")
                return
            time.sleep(_BETWEEN_LOOKS_S)

    def _disconnect(self) -> None:
        alias = self.draw.choice(self.scene.aliases)
        self.say(f"{self.second:7.1f} s  disconnect {alias}")
        began = self.second
        self.application.ask("disconnect", alias)
        self._closed(f"disconnect {alias}", alias, began)

    def _closed(self, what: str, alias: str, began: float) -> None:
        self.windows.append(
            Window(what, frozenset({alias}), began, self.second, End.CLOSED, CLOSING_S)
        )

    def _fork(self) -> None:
        count, seed = self.draw.randint(1, _MOST_CHILDREN), self.draw.getrandbits(32)
        aliases = self.scene.aliases_without(self._away)
        self.say(f"{self.second:7.1f} s  fork {count}")
        self.children += self.application.fork(self.second, count, aliases, seed)

    def _server(self) -> str:
        return self.draw.choice([name for name in self.scene.servers if name != self._away])
