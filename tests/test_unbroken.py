"""Work that Ctrl-C does not break off: done aside, in the caller's context, and abandoned."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest

from zconfig.channel.cancellation import Cancellation
from zconfig.channel.unbroken import Caller, unbroken

PATIENCE_S = 20.0

_REQUEST: ContextVar[str] = ContextVar("_REQUEST", default="none")


def interrupt() -> None:
    """Press Ctrl-C."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def nothing() -> None:
    """Abandon work that needs no telling."""


def test_the_main_thread_has_its_work_done_by_another_one() -> None:
    assert unbroken(lambda _: threading.current_thread(), nothing) is not threading.current_thread()


def test_another_thread_does_its_work_itself() -> None:
    def own() -> bool:
        return unbroken(lambda _: threading.current_thread(), nothing) is threading.current_thread()

    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(own).result(PATIENCE_S)


def test_work_is_done_in_the_context_of_who_wants_it() -> None:
    reset = _REQUEST.set("of mine")
    try:
        assert unbroken(lambda _: _REQUEST.get(), nothing) == "of mine"
    finally:
        _REQUEST.reset(reset)


def test_the_caller_does_its_part_in_its_own_thread_before_the_work_goes_on() -> None:
    did: list[object] = []

    def work(caller: Caller) -> None:
        caller(lambda: did.append(threading.current_thread()))
        did.append("the rest")

    unbroken(work, nothing)
    assert did == [threading.main_thread(), "the rest"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError])
def test_work_whose_caller_fails_in_its_part_is_abandoned_and_goes_on(
    kind: type[BaseException],
) -> None:
    told, done = threading.Event(), threading.Event()

    def fail() -> None:
        raise kind

    def work(caller: Caller) -> None:
        caller(fail)
        assert told.wait(PATIENCE_S)
        caller(fail)  # nobody is there to do it
        done.set()

    with pytest.raises(kind):
        unbroken(work, told.set)
    assert done.wait(PATIENCE_S)


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_the_work_raises_is_raised(kind: type[BaseException]) -> None:
    error = kind("so")

    def fail(_: Caller) -> None:
        raise error

    with pytest.raises(kind) as caught:
        unbroken(fail, nothing)
    assert caught.value is error


def test_an_interrupt_is_raised_at_once_and_the_work_told() -> None:
    told, done = threading.Event(), threading.Event()

    def work(_: Caller) -> None:
        interrupt()
        assert told.wait(PATIENCE_S)
        done.set()

    with pytest.raises(KeyboardInterrupt):
        unbroken(work, told.set)
    assert done.wait(PATIENCE_S)


def test_each_part_of_cancelled_work_is_ended_and_what_is_over_left_alone() -> None:
    cancellation, ended = Cancellation(), list[str]()
    with cancellation.ending(lambda: ended.append("over")):
        pass
    with (
        cancellation.ending(lambda: ended.append("outer")),
        cancellation.ending(lambda: ended.append("inner")),
    ):
        assert not cancellation.is_set
        cancellation.set()
    assert sorted(ended) == ["inner", "outer"]
    assert cancellation.is_set
    assert cancellation.wait(PATIENCE_S)


def test_a_part_that_begins_after_the_cancel_is_ended_at_once() -> None:
    cancellation, ended = Cancellation(), threading.Event()
    cancellation.set()
    with cancellation.ending(ended.set):
        assert ended.is_set()
