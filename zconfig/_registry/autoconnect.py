"""Connect several aliases in parallel, and collect their failures."""

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
    """Open aliases in parallel, with one thread per alias.

    Args:
        aliases: The aliases to open.
        open_one: Opens one alias.
        give_up: Cancels the connect of one alias, if the caller is interrupted.

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
    """Return the aliases to open, and the set of those that may fail.

    Args:
        table: The configured aliases.
        aliases: The required aliases; if empty, all configured aliases with their own setting.

    Raises:
        ConfigurationError: An alias is not configured or invalid; lists all problems.
    """
    names = tuple(wanted_alias(alias) for alias in aliases)
    if names:
        table.check(names)
        return names, set()
    table.check_all()
    specs = dict(table.items())
    return tuple(specs), {name for name, spec in specs.items() if not spec.required}


def raise_for_failures(
    outcomes: dict[str, C | ZConfigError], optional: Collection[str]
) -> dict[str, C]:
    """Return the connections, unless a required alias failed.

    Args:
        outcomes: The connection or error of each alias.
        optional: The aliases that may fail.

    Raises:
        AutoconnectError: A required alias failed; lists all failures, optional aliases included.
    """
    connected = {a: each for a, each in outcomes.items() if not isinstance(each, ZConfigError)}
    failed = failures(outcomes)
    if failed.keys() - set(optional):
        raise AutoconnectError(failed, connected)
    return connected


def failures(outcomes: Mapping[str, object]) -> dict[str, ZConfigError]:
    """Return the errors among the outcomes, by alias."""
    return {alias: each for alias, each in outcomes.items() if isinstance(each, ZConfigError)}
