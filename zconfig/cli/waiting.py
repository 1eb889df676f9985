"""Waiting until servers are there, as an init container does."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from concurrent.futures import wait as wait_for

from zconfig.cli.report import Outcome, Outcomes, Report, reported
from zconfig.errors import ConnectError, ZConfigError
from zconfig.registry import Connections
from zconfig.settings.arguments import wanted_alias

_USUAL_S = 60.0
# One that was not yet dialed when it was given up is given up again.
_BETWEEN_LOOKS_S = 0.2

_Futures = dict[str, Future[Outcome]]


def patience_s(connections: Connections, timeout: float | None) -> float:
    """Return how many seconds to wait in all: what was asked for, `ZCONFIG_WAIT`, or a minute."""
    options = connections.configuration.options
    configured = options.wait if "wait" in options.model_fields_set else _USUAL_S
    return configured if timeout is None else timeout


def waited(connections: Connections, aliases: Iterable[str], total_s: float) -> Report:
    """Wait until aliases, by default all, are connected, and report.

    What keeps a required alias from connecting for good ends it at once: a wrong configuration
    before anything is dialed, a refused password as soon as it was refused. An optional alias
    gets one attempt.

    Args:
        connections: The registry.
        aliases: Which ones; all of them count as required then.
        total_s: Seconds to wait in all; with 0, one attempt each.
    """
    named = tuple(dict.fromkeys(wanted_alias(alias) for alias in aliases))
    configuration = connections.configuration
    is_doomed = not named and any(problem.alias is None for problem in configuration.errors)

    def attempt(names: Sequence[str]) -> Outcomes:
        required = frozenset(named or names) - (frozenset() if named else configuration.optional)
        # Of what is configured wrongly, or not at all, this says why: there is nothing to dial.
        wrong = connections.attempt(*(name for name in names if name not in connections))
        if is_doomed or wrong.keys() & required:
            return {**dict.fromkeys(names), **wrong}
        known = (name for name in names if name in connections)
        found = {**wrong, **_connected(connections, known, required, total_s)}
        return {name: found[name] for name in names}

    return reported(connections, named, attempt)


def _connected(
    connections: Connections, aliases: Iterable[str], required: Collection[str], total_s: float
) -> Outcomes:
    """Connect aliases in parallel, as long as there is hope for all that are required."""

    def attempt(alias: str) -> Outcome:
        longest_s = connections.spec(alias).timeout_s
        timeout = min(longest_s, total_s) if total_s else longest_s
        wait = total_s if alias in required else 0.0
        return connections.attempt(alias, wait=wait, timeout=timeout)[alias]

    names = tuple(aliases)
    executor = ThreadPoolExecutor(max(len(names), 1), thread_name_prefix="zconfig-wait")
    try:
        futures = {name: executor.submit(attempt, name) for name in names}
        _until_hopeless(futures, required)
        _give_up(connections, futures)
    finally:  # Ctrl-C must not wait for what is under way
        executor.shutdown(wait=False)
    return {name: future.result() for name, future in futures.items()}


def _until_hopeless(futures: _Futures, required: Collection[str]) -> None:
    """Wait until all have ended, or one that is required has failed for good."""
    names = {future: name for name, future in futures.items()}
    for future in as_completed(names):
        if names[future] in required and _is_final(future.result()):
            return


def _is_final(outcome: Outcome) -> bool:
    if isinstance(outcome, ConnectError):
        return outcome.permanent
    return isinstance(outcome, ZConfigError)


def _give_up(connections: Connections, futures: _Futures) -> None:
    """End what has not ended; one that has not begun to dial is met the next time."""
    while pending := [name for name, future in futures.items() if not future.done()]:
        for name in pending:
            connections.disconnect(name)
        wait_for((futures[name] for name in pending), _BETWEEN_LOOKS_S)
