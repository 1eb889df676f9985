"""A new configuration beside the old one → what changed, and what that asks of a connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from zconfig.errors import Problem
from zconfig.registry.table import Table
from zconfig.spec import ConnectionSpec, differences

# What a live connection takes up without being opened anew.
_AT_ONCE = frozenset({"credentials", "required", "timeout_s"})


@dataclass(frozen=True, slots=True)
class Changes:
    """What a reload changed.

    Args:
        added: Aliases that are new.
        removed: Aliases that are gone; they were closed.
        changed: For each changed alias the names of its changed fields, never their values.
        kept: Aliases that stay as they were, because what was read for them is wrong, or because
            their server did not accept the new credentials.
        problems: Everything that is wrong in what was read.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def compare(old: Table, new: Table, kept: tuple[str, ...] = ()) -> Changes:
    """Return what differs between two tables.

    Args:
        old: What was configured.
        new: What is configured now.
        kept: Aliases that were left as they were.
    """
    both = [alias for alias in new if alias in old]
    compared = {alias: differences(old.spec(alias), new.spec(alias)) for alias in both}
    return Changes(
        added=tuple(alias for alias in new if alias not in old),
        removed=tuple(alias for alias in old if alias not in new),
        changed={alias: names for alias, names in compared.items() if names},
        kept=kept,
        problems=new.configuration.problems,
    )


def wrong_but_known(old: Table, new: Table) -> dict[str, ConnectionSpec]:
    """Return the specifications of aliases for which something wrong is read now."""
    wrong = {problem.alias for problem in new.configuration.errors}
    return {alias: old.spec(alias) for alias in old if alias in wrong and alias not in new}


def reopens(live: ConnectionSpec, new: ConnectionSpec) -> bool:
    """Tell whether a live connection has to be opened anew for a specification."""
    return not _AT_ONCE.issuperset(differences(live, new))
