"""A new configuration beside the old one → what changed, and what that asks of a connection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zconfig._registry.specs import SpecTable
from zconfig._spec import ConnectionSpec, differences
from zconfig.errors import Problem

if TYPE_CHECKING:
    from zconfig._connection import ManagedConnection
    from zconfig._registry.pool import Pool


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


def compare(old: SpecTable, new: SpecTable, kept: tuple[str, ...] = ()) -> Changes:
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


def wrong_but_known(old: SpecTable, new: SpecTable) -> dict[str, ConnectionSpec]:
    """Return the specifications of aliases for which something wrong is read now."""
    wrong = {problem.alias for problem in new.configuration.errors}
    return {alias: old.spec(alias) for alias in old if alias in wrong and alias not in new}


def reopens(live: ConnectionSpec, new: ConnectionSpec) -> bool:
    """Tell whether a live connection has to be opened anew for a specification."""
    return not _AT_ONCE.issuperset(differences(live, new))


def with_newer_credentials(live: ConnectionSpec, read: ConnectionSpec) -> ConnectionSpec | None:
    """Return what was read, if it differs from what is live in the credentials and nothing else."""
    return read if differences(live, read) == ("credentials",) else None


def differing(new: SpecTable, pool: Pool) -> Iterator[tuple[str, ManagedConnection]]:
    """Return what is open with another specification, for which it need not be opened anew."""
    for alias in new:
        managed, spec = pool.managed(alias), new.spec(alias)
        is_open = managed and managed.is_open and managed.spec != spec
        if managed and is_open and not reopens(managed.spec, spec):
            yield alias, managed


def reopen(new: SpecTable, pool: Pool) -> None:
    """Have everything else that has another specification open with the new one on its next use."""
    for alias in new:
        managed, spec = pool.managed(alias), new.spec(alias)
        if managed and managed.spec != spec:
            managed.replace_spec(spec)
