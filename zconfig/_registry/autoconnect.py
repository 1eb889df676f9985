"""Many aliases at once: in parallel, under one deadline, every failure told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

from zconfig._channel.interruptible import run_concurrently
from zconfig._registry.specs import SpecTable
from zconfig._settings.arguments import wanted_alias
from zconfig.errors import AutoconnectError, ZConfigError

if TYPE_CHECKING:
    from zconfig._connection import Connection

C = TypeVar("C")


def open_all(
    aliases: Iterable[str],
    open_one: Callable[[str], Connection],
    give_up: Callable[[str], None],
) -> dict[str, Connection | ZConfigError]:
    """Open aliases in parallel, a thread for each.

    Args:
        aliases: What to open.
        open_one: Opens one, or raises why not.
        give_up: Ends the connect of one, if the caller is interrupted.

    Returns:
        A connection or an error for each alias, in the order given.
    """

    def attempt(alias: str) -> Connection | ZConfigError:
        try:
            return open_one(alias)
        except ZConfigError as error:
            return error

    return run_concurrently(attempt, aliases, give_up)


def select_aliases(table: SpecTable, aliases: Iterable[str]) -> tuple[tuple[str, ...], set[str]]:
    """Return the aliases to open, and which of them may fail.

    Args:
        table: What is configured.
        aliases: Which ones, all of them required; without any, every configured alias.

    Raises:
        ConfigurationError: With everything that is wrong with them.
    """
    names = tuple(wanted_alias(alias) for alias in aliases)
    if names:
        table.check(names)
        return names, set()
    table.check_all()
    return tuple(table), {name for name in table if not table.spec(name).required}


def raise_for_failures(
    outcomes: dict[str, C | ZConfigError], optional: Collection[str]
) -> dict[str, C]:
    """Return the connections, unless a required alias failed.

    Args:
        outcomes: What became of each alias.
        optional: The aliases that may fail.

    Raises:
        AutoconnectError: With every failure, also those of optional aliases.
    """
    connected = {a: each for a, each in outcomes.items() if not isinstance(each, ZConfigError)}
    failed = failures(outcomes)
    if failed.keys() - set(optional):
        raise AutoconnectError(failed, connected)
    return connected


def failures(outcomes: Mapping[str, object]) -> dict[str, ZConfigError]:
    """Return why aliases could not be opened.

    Args:
        outcomes: What became of each alias.
    """
    return {alias: each for alias, each in outcomes.items() if isinstance(each, ZConfigError)}
