"""A new configuration → what changed, and what that means for live connections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from zconfig.errors import Problem
from zconfig.registry.table import Table
from zconfig.spec import ConnectionSpec, differences

# Fields that a live connection takes up without being opened anew.
_AT_ONCE = frozenset({"required", "timeout_s"})


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reload changed.

    Args:
        added: Aliases that are new.
        removed: Aliases that are gone; they were closed.
        changed: For each changed alias the names of its changed fields, never their values.
        kept: Aliases that stay as they were, because what was read for them is wrong, or their
            server rejected the new credentials.
        problems: Everything that is wrong in what was read.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def compare(old: Table, new: Table) -> Changes:
    """Return what differs between two tables.

    Args:
        old: What was configured.
        new: What is configured now, with what was kept.
    """
    both = [alias for alias in new if alias in old]
    compared = {alias: differences(old.spec(alias), new.spec(alias)) for alias in both}
    wrong = {problem.alias for problem in new.configuration.errors}
    return Changes(
        added=tuple(alias for alias in new if alias not in old),
        removed=tuple(alias for alias in old if alias not in new),
        changed={alias: names for alias, names in compared.items() if names},
        kept=tuple(alias for alias in new if alias in wrong),
        problems=new.configuration.problems,
    )


def rotates(names: tuple[str, ...]) -> bool:
    """Tell whether changed fields can be taken up by rotating the credentials."""
    return "credentials" in names and not set(names) - _AT_ONCE - {"credentials"}


def reopens(names: tuple[str, ...]) -> bool:
    """Tell whether changed fields need the connection to be opened anew."""
    return bool(set(names) - _AT_ONCE - {"credentials"})


def kept_specs(old: Table, wrong: set[str | None]) -> dict[str, ConnectionSpec]:
    """Return the specifications of aliases for which something wrong was read."""
    return {alias: old.spec(alias) for alias in old if alias in wrong}
