"""Ctrl-C: what it does not come between, and what goes on and ends by itself."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from unittest.mock import Mock

import pytest

from tests.support import PATIENCE_S
from tests.support.registries import registry
from zconfig import events
from zconfig._channel import interruptible
from zconfig._channel.bound_channel import Cancellation
from zconfig._channel.interruptible import (
    _Worker,
    _Workers,
    run_concurrently,
    run_interruptibly,
)
from zconfig.testing import FakeServer, fake_server

_REQUEST: ContextVar[str] = ContextVar("_REQUEST", default="none")


def interrupt() -> None:
    """Press Ctrl-C."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def nothing() -> None:
    """Cancel work that ends by itself."""


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake


def test_the_main_thread_has_its_work_done_by_another_one() -> None:
    assert run_interruptibly(threading.current_thread, nothing) is not threading.current_thread()


def test_another_thread_does_its_work_itself() -> None:
    def own() -> bool:
        return run_interruptibly(threading.current_thread, nothing) is threading.current_thread()

    with ThreadPoolExecutor(1) as executor:
        assert executor.submit(own).result(PATIENCE_S)


def test_work_is_done_in_the_context_of_who_wants_it() -> None:
    reset = _REQUEST.set("of mine")
    try:
        assert run_interruptibly(_REQUEST.get, nothing) == "of mine"
    finally:
        _REQUEST.reset(reset)


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_the_work_raises_is_raised(kind: type[BaseException]) -> None:
    error = kind("so")

    def fail() -> None:
        raise error

    with pytest.raises(kind) as caught:
        run_interruptibly(fail, nothing)
    assert caught.value is error


def test_an_interrupt_is_raised_at_once_and_the_work_cancelled() -> None:
    told, done = threading.Event(), threading.Event()

    def work() -> None:
        interrupt()
        assert told.wait(PATIENCE_S)
        done.set()

    with pytest.raises(KeyboardInterrupt):
        run_interruptibly(work, told.set)
    assert done.wait(PATIENCE_S)


def test_the_application_s_own_handler_is_called_while_the_main_thread_waits() -> None:
    heard = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: heard.set())

    def work() -> bool:
        interrupt()
        return heard.wait(PATIENCE_S)

    try:
        assert run_interruptibly(work, nothing)
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_interrupt_does_not_break_off_the_cancelling() -> None:
    cancelling, cancelled = threading.Event(), threading.Event()

    def cancel() -> None:
        interrupt()
        cancelling.set()
        assert left.wait(PATIENCE_S)
        cancelled.set()

    left = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        run_interruptibly(lambda: interrupt() or cancelling.wait(PATIENCE_S), cancel)
    left.set()
    assert cancelled.wait(PATIENCE_S)


def test_work_for_many_keys_is_done_at_once_and_each_outcome_found_by_its_key() -> None:
    all_began = threading.Barrier(3, timeout=PATIENCE_S)
    reset = _REQUEST.set("of mine")

    def work(key: str) -> str:
        all_began.wait()
        return f"{key} {_REQUEST.get()}"

    try:
        outcomes = run_concurrently(work, ["a", "b", "c", "a"], Mock())
    finally:
        _REQUEST.reset(reset)
    assert outcomes == {"a": "a of mine", "b": "b of mine", "c": "c of mine"}


def test_work_for_a_single_key_is_done_by_who_wants_it() -> None:
    outcomes = run_concurrently(lambda _: threading.current_thread(), ["a"], Mock())
    assert outcomes == {"a": threading.current_thread()}
    assert run_concurrently(Mock(), [], Mock()) == {}


def test_what_the_work_for_a_key_raises_is_raised_when_all_has_ended() -> None:
    ended = threading.Event()

    def work(key: str) -> None:
        if key == "bad":
            raise ValueError(key)
        ended.set()

    with pytest.raises(ValueError, match="bad"):
        run_concurrently(work, ["bad", "good"], Mock())
    assert ended.is_set()


def test_an_interrupt_cancels_the_work_for_each_key() -> None:
    cancelled, may_end = list[str](), threading.Event()

    def work(key: str) -> None:
        if key == "a":
            interrupt()
        assert may_end.wait(PATIENCE_S)

    with pytest.raises(KeyboardInterrupt):
        run_concurrently(work, ["a", "b"], cancelled.append)
    may_end.set()
    assert cancelled == ["a", "b"]


class OwnWorkers(_Workers):
    """The worker threads of one test: only the main thread gets any."""

    def __init__(self) -> None:
        self.kept = threading.Semaphore(0)
        self._taken = set[_Worker]()

    def take(self) -> _Worker:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError  # another thread does the work for one key after the other
        worker = super().take()
        self._taken.add(worker)
        return worker

    def keep(self, worker: _Worker) -> None:
        if worker in self._taken:  # otherwise another test's work ends only now
            super().keep(worker)
            self.kept.release()


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> OwnWorkers:
    workers = OwnWorkers()
    monkeypatch.setattr(interruptible, "_WORKERS", workers)
    return workers


def test_no_work_begins_after_an_interrupt(workers: OwnWorkers) -> None:
    begun = list[str]()
    cancelled = threading.Event()

    def work(key: str) -> None:
        begun.append(key)
        interrupt()
        assert cancelled.wait(PATIENCE_S)

    def cancel(key: str) -> None:
        if key == "b":
            cancelled.set()

    with pytest.raises(KeyboardInterrupt):
        run_concurrently(work, ["a", "b"], cancel)
    for _ in ("the work", "the cancelling"):
        assert workers.kept.acquire(timeout=PATIENCE_S)
    assert begun == ["a"]


def test_one_thread_does_one_task_after_another(workers: OwnWorkers) -> None:
    first = run_interruptibly(threading.current_thread, nothing)
    assert run_interruptibly(threading.current_thread, nothing) is first
    assert first.daemon


def test_of_the_threads_that_did_tasks_at_once_one_is_kept(workers: OwnWorkers) -> None:
    threads = list[threading.Thread]()
    all_began = threading.Barrier(2, timeout=PATIENCE_S)

    def cancel() -> None:
        threads.append(threading.current_thread())
        all_began.wait()

    def work() -> None:
        threads.append(threading.current_thread())
        interrupt()
        all_began.wait()

    with pytest.raises(KeyboardInterrupt):
        run_interruptibly(work, cancel)
    for _ in threads:
        assert workers.kept.acquire(timeout=PATIENCE_S)
    kept = run_interruptibly(threading.current_thread, nothing)
    (other,) = set(threads) - {kept}
    other.join(PATIENCE_S)
    assert not other.is_alive()
    assert kept.is_alive()


def test_where_no_thread_can_be_started_the_main_thread_does_the_work_itself(
    workers: OwnWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError))
    assert run_interruptibly(threading.current_thread, nothing) is threading.main_thread()
    assert not workers.kept.acquire(blocking=False)


def test_no_handler_of_a_signal_is_looked_at_or_replaced(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched = Mock()
    with registry(ZILLIZ_A_URI=server.uri, ZILLIZ_B_URI=server.uri) as connections:
        with monkeypatch.context() as patched:
            for name in ("signal", "getsignal", "set_wakeup_fd", "siginterrupt"):
                patched.setattr(signal, name, touched)
            connections["a"].ping()
            connections.autoconnect()
        assert not touched.called


def test_hooks_see_the_context_of_who_connects(server: FakeServer) -> None:
    seen: list[str] = []
    reset = _REQUEST.set("of mine")
    try:
        with registry(ZILLIZ_A_URI=server.uri, ZILLIZ_B_URI=server.uri) as connections:
            connections.subscribe(lambda _: seen.append(_REQUEST.get()), events.ConnectionConnected)
            assert connections["a"].is_open
            connections.close()
            connections.autoconnect()
    finally:
        _REQUEST.reset(reset)
    assert seen == ["of mine"] * 3


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
