"""Layers → one value a field: the highest layer that has one; and what it shadows.

Pure but for one thing: the file of a `_FILE` variable is read here, through a function that is
passed in, because a file whose variable a higher layer shadows must never be opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from zconfig.endpoint import EndpointError, split_userinfo
from zconfig.errors import Problem
from zconfig.origin import Origin
from zconfig.redaction import Hidden
from zconfig.settings.fields import CREDENTIALS
from zconfig.settings.grouping import Declared, Fields, Layer
from zconfig.settings.names import Word
from zconfig.sources.entry import Entry

Slot = tuple[str, str]
"""Alias and field."""

Values = Mapping[str, Mapping[str, Hidden]]
"""Values by alias and field."""

ReadFile = Callable[[Entry], tuple[Entry | None, tuple[Problem, ...]]]
"""Reads the file that a `_FILE` variable names: what is in it, or `None`; and what is wrong."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where one field's value came from.

    Args:
        origin: Where the value that counts stood.
        layer: The name of its layer.
        shadowed: Where the values stood that it takes precedence over.
        had_line_end: Whether its file ended in a line end, which is not part of it.
    """

    origin: Origin
    layer: str
    shadowed: tuple[Origin, ...] = ()
    had_line_end: bool = False


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the layers amount to.

    Args:
        layers: What each layer contributes, by its name, highest first; no slot occurs twice.
        provenance: Where each value came from.
        empty: Entries that are set but empty, which counts as unset.
        broken: Slots whose value could not be had; no lower layer stands in for them.
        problems: What is wrong.
    """

    layers: tuple[tuple[str, Values], ...]
    provenance: Mapping[Slot, Provenance]
    empty: tuple[tuple[Slot, Origin], ...]
    broken: frozenset[Slot]
    problems: tuple[Problem, ...]


def resolve(layers: Iterable[Layer], read_file: ReadFile) -> Resolution:
    """Decide, for each field of each alias, which layer's value counts.

    Args:
        layers: Highest precedence first.
        read_file: Reads the file of a `_FILE` variable; called for winners only.
    """
    resolver = _Resolver(read_file)
    contributions = tuple((layer.name, resolver.take(layer)) for layer in layers)
    return Resolution(
        contributions,
        resolver.provenance,
        tuple(resolver.empty),
        frozenset(resolver.broken),
        tuple(resolver.problems),
    )


class _Resolver:
    """Goes through the layers, highest first, and remembers which slots are settled."""

    def __init__(self, read_file: ReadFile) -> None:
        self._read_file = read_file
        self.provenance: dict[Slot, Provenance] = {}
        self.empty: list[tuple[Slot, Origin]] = []
        self.broken: set[Slot] = set()
        self.problems: list[Problem] = []

    def take(self, layer: Layer) -> Values:
        """Return what a layer contributes beyond all layers above it."""
        for fault in layer.faults:
            self._take_fault(fault)
        contribution = {}
        for alias, fields in layer.aliases.items():
            taken = self._take_alias(alias, dict(fields))
            for field, entry in taken.items():
                self.provenance[alias, field] = Provenance(
                    entry.origin, layer.name, had_line_end=entry.had_line_end
                )
            if taken:
                contribution[alias] = {field: entry.value for field, entry in taken.items()}
        return contribution

    def _take_fault(self, fault: Problem) -> None:
        """Let a value that cannot be read spoil its slot, unless a higher layer has it."""
        slot = (fault.alias or "", fault.field or "")
        rivals = CREDENTIALS if slot[1] in CREDENTIALS else (slot[1],)
        if any(self._is_settled((slot[0], name)) for name in rivals):
            fault = replace(fault, severity="warning")
        elif fault.severity == "error":
            self.broken.add(slot)
        self.problems.append(fault)

    def _take_alias(self, alias: str, fields: dict[str, tuple[Declared, ...]]) -> dict[str, Entry]:
        """Take each field on its own, but the credentials as one value."""
        taken = self._take_uri(alias, fields)
        credentials = {name: fields.pop(name) for name in CREDENTIALS if name in fields}
        for field, candidates in fields.items():
            entry = self._take_slot((alias, field), candidates)
            if entry:
                taken[field] = entry
        return taken | self._take_credentials(alias, credentials)

    def _take_uri(self, alias: str, fields: dict[str, tuple[Declared, ...]]) -> dict[str, Entry]:
        """Take the URI; the credentials in it count as those of the same layer.

        `user:password@` is USER and PASSWORD. `key@` is a token, as in pymilvus, unless a PASSWORD
        stands beside it.
        """
        entry = self._take_slot((alias, "uri"), fields.pop("uri", ()))
        if entry is None or "@" not in entry.value:
            return {"uri": entry} if entry else {}
        try:
            userinfo = split_userinfo(entry.value)
        except EndpointError as error:
            complaint = error.code, error.message, error.remedy
        else:
            alone = userinfo.password is None and "password" not in fields
            user_field = "token" if alone else "user"
            for field, text in ((user_field, userinfo.user), ("password", userinfo.password)):
                if text is not None:
                    part = Declared(Word(field, is_file=False), replace(entry, value=Hidden(text)))
                    fields[field] = (*fields.get(field, ()), part)
            return {"uri": replace(entry, value=Hidden(userinfo.uri))}
        self._break((alias, "uri"), entry.origin, *complaint)
        return {}

    def _take_credentials(self, alias: str, fields: Fields) -> dict[str, Entry]:
        """Take a layer's credentials whole, or none of them if a higher layer has any."""
        if not fields:
            return {}
        settled = [name for name in CREDENTIALS if self._is_settled((alias, name))]
        if settled:
            for candidates in fields.values():
                self._shadow((alias, settled[0]), candidates)
            return {}
        found = {name: self._value((alias, name), each) for name, each in fields.items()}
        entries = {name: entry for name, entry in found.items() if entry}
        return {} if self._complain_of(alias, entries) else entries

    def _complain_of(self, alias: str, found: Mapping[str, Entry]) -> bool:
        """Refuse two forms of credentials in one layer, and half of a pair."""
        if "token" in found and len(found) > 1:
            other = next(found[name] for name in ("user", "password") if name in found)
            self._break(
                (alias, "token"),
                other.origin,
                "two_credentials",
                f"is set beside {found['token'].origin.key} in the same place",
                "keep either the token, or the user and password",
            )
            return True
        for present, absent in (("user", "password"), ("password", "user")):
            if present in found and absent not in found and (alias, absent) not in self.broken:
                self._break(
                    (alias, absent),
                    found[present].origin,
                    "half_credentials",
                    f"is set without {absent.upper()} in the same place",
                    f"set {absent.upper()} there too, or a token in place of both",
                )
                return True
        return False

    def _take_slot(self, slot: Slot, candidates: tuple[Declared, ...]) -> Entry | None:
        if self._is_settled(slot):
            self._shadow(slot, candidates)
            return None
        return self._value(slot, candidates)

    def _value(self, slot: Slot, candidates: tuple[Declared, ...]) -> Entry | None:
        """Return the one value of a slot in one layer, where all spellings must agree."""
        entries = [entry for each in candidates if (entry := self._read(slot, each))]
        if slot in self.broken or not entries:
            return None
        first, *others = entries
        for other in others:
            if other.value != first.value:
                self._break(
                    slot,
                    other.origin,
                    "conflict",
                    f"differs from {first.origin}",
                    "keep one of the two",
                )
                return None
        return first

    def _read(self, slot: Slot, declared: Declared) -> Entry | None:
        """Return an entry with its file read, or `None` if it is empty or unreadable."""
        entry = declared.entry
        if declared.word.is_file and entry.value:
            found, problems = self._read_file(entry)
            self.problems += [replace(p, alias=slot[0], field=slot[1]) for p in problems]
            if found is None:
                self.broken.add(slot)
                return None
            entry = found
        if not entry.value:
            self.empty.append((slot, entry.origin))
            return None
        return entry

    def _is_settled(self, slot: Slot) -> bool:
        return slot in self.provenance or slot in self.broken

    def _shadow(self, slot: Slot, candidates: tuple[Declared, ...]) -> None:
        """Note what a value takes precedence over."""
        winner = self.provenance.get(slot)
        if winner:
            origins = tuple(each.entry.origin for each in candidates if each.entry.value)
            self.provenance[slot] = replace(winner, shadowed=(*winner.shadowed, *origins))

    def _break(self, slot: Slot, origin: Origin, code: str, message: str, remedy: str) -> None:
        self.broken.add(slot)
        self.problems.append(Problem(code, message, remedy, slot[0], slot[1], origin))
