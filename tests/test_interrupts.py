"""Ctrl-C: what it does not come between, and what goes on and ends by itself."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest

from zconfig.channel.cancellation import Cancellation
from zconfig.channel.uninterrupted import Uninterrupted
from zconfig.registry.unbroken import unbroken

PATIENCE_S = 20.0

_REQUEST: ContextVar[str] = ContextVar("_REQUEST", default="none")


def interrupt() -> None:
    """Press Ctrl-C."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def nothing() -> None:
    """Abandon work that needs no telling."""


def test_the_main_thread_has_its_work_done_by_another_one() -> None:
    assert unbroken(threading.current_thread, nothing) is not threading.current_thread()


def test_another_thread_does_its_work_itself() -> None:
    def own() -> bool:
        return unbroken(threading.current_thread, nothing) is threading.current_thread()

    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(own).result(PATIENCE_S)


def test_work_is_done_in_the_context_of_who_wants_it() -> None:
    reset = _REQUEST.set("of mine")
    try:
        assert unbroken(_REQUEST.get, nothing) == "of mine"
    finally:
        _REQUEST.reset(reset)


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_the_work_raises_is_raised(kind: type[BaseException]) -> None:
    error = kind("so")

    def fail() -> None:
        raise error

    with pytest.raises(kind) as caught:
        unbroken(fail, nothing)
    assert caught.value is error


def test_an_interrupt_is_raised_at_once_and_the_work_told() -> None:
    told, done = threading.Event(), threading.Event()

    def work() -> None:
        interrupt()
        assert told.wait(PATIENCE_S)
        done.set()

    with pytest.raises(KeyboardInterrupt):
        unbroken(work, told.set)
    assert done.wait(PATIENCE_S)


def test_an_interrupt_in_the_middle_of_a_step_counts_at_its_end() -> None:
    steps: list[int] = []
    handler = signal.getsignal(signal.SIGINT)

    def work() -> None:
        with Uninterrupted():
            steps.append(1)
            interrupt()
            steps.append(2)
        steps.append(3)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == [1, 2]
    assert signal.getsignal(signal.SIGINT) is handler


def test_the_applications_own_handler_hears_of_it_then() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        with Uninterrupted():
            interrupt()
            time.sleep(0.01)
            assert heard == []
        assert heard == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_what_python_does_not_handle_stays_as_it_is(handler: signal.Handlers) -> None:
    before = signal.signal(signal.SIGINT, handler)
    try:
        with Uninterrupted():
            assert signal.getsignal(signal.SIGINT) is handler
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_leaves_signals_alone() -> None:
    handler = signal.getsignal(signal.SIGINT)

    def look() -> object:
        with Uninterrupted():
            return signal.getsignal(signal.SIGINT)

    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(look).result(PATIENCE_S) is handler


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
