"""The example for Celery: the children of a prefork pool, with tasks to do, and in trouble."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from tests.support import celery_queue
from tests.support.applications import LONGEST_WAIT_S, Application, eventually, rewrite, running
from tests.support.faults import LOOPBACK, BreakableProxy, breakable_proxy
from zconfig.testing import FakeServer, fake_server

OVER = {"SUCCESS", "FAILURE"}
CHILDREN = 2


def worker(directory: Path, **environ: str) -> AbstractContextManager[Application]:
    how = [celery_queue.__name__, "-A", "celery_app", "worker"]
    how += [f"--concurrency={CHILDREN}", "--without-mingle"]
    how += ["--", "worker.lost_wait=1"]  # seconds, in case a child ended after all was done
    return running(*how, directory=directory, **environ)


@dataclass(frozen=True)
class Site:
    """A worker, who gives it tasks, and all that it depends on."""

    application: Application
    producer: Celery
    server: FakeServer
    path: BreakableProxy
    secret: Path

    def send(self, count: int = 1, timeout_s: float = 2.0) -> list[Any]:
        """Send tasks, and return what they will come to."""
        arguments = ["default", timeout_s]
        return [self.producer.send_task("celery_app.ping", arguments) for _ in range(count)]

    def come_of(self, tasks: list[Any]) -> list[dict[str, Any]]:
        """Return what the tasks came to; all of them must end well."""
        eventually(lambda: {each.state for each in tasks} <= OVER, lambda: self.application.log)
        assert {each.state for each in tasks} == {"SUCCESS"}, self.application.log
        return [each.result for each in tasks]

    def children(self) -> set[int]:
        """Give tasks to the worker until each child has done one, and return their process ids.

        One child may do all of them, where the other one gets no time.
        """
        done: set[int] = set()

        def has_each_done_one() -> bool:
            done.update(each["worker"] for each in self.come_of(self.send(10)))
            return len(done) == CHILDREN

        eventually(has_each_done_one, lambda: f"{done}\n{self.application.log}")
        return done


def producer(directory: Path) -> Celery:
    """Return what puts tasks into the queue of the example."""
    queue = directory / "celery-queue"
    app = Celery("producer", broker="filesystem://", backend=f"file://{queue}")
    folders = ("data_folder_in", "data_folder_out", "control_folder")
    app.conf.broker_transport_options = dict.fromkeys(folders, queue)
    return app


@pytest.fixture(scope="module")
def _site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("celery")
    (directory / "celery-queue").mkdir()
    secret = directory / "token"
    rewrite(secret, "user:first")
    with fake_server() as server, breakable_proxy(server.port) as path:
        server.accept("user:first")
        environ = {"ZILLIZ_URI": f"http://{LOOPBACK}:{path.port}", "ZILLIZ_TOKEN_FILE": str(secret)}
        with worker(directory, **environ) as application:
            yield Site(application, producer(directory), server, path, secret)


@pytest.fixture
def site(_site: Site) -> Site:
    """Serve with a worker that is well."""
    _site.come_of(_site.send())
    return _site


def test_each_child_works_over_a_connection_of_its_own(site: Site) -> None:
    assert site.application.process.pid not in site.children()
    assert len({call.peer for call in site.server.calls("GetVersion")}) >= CHILDREN


def test_the_task_of_a_child_that_is_killed_is_done_by_another(site: Site) -> None:
    before = site.children()
    asked = len(site.server.calls("GetVersion"))
    site.server.hold()
    # A child that is killed while it waits for a task holds a lock that the pool never gets back:
    # none may have ended its own by then, however late this test gets on.
    tasks = site.send(CHILDREN, timeout_s=2 * LONGEST_WAIT_S)
    site.server.wait_for("GetVersion", asked + CHILDREN, LONGEST_WAIT_S)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    site.server.recover()
    after = {each["worker"] for each in site.come_of(tasks)}
    assert after
    assert not after & before


def test_a_rotated_secret_fails_no_task(site: Site) -> None:
    old = site.secret.read_text()
    new = f"{old}-and-more"
    tasks = site.send(20)
    site.server.accept(old, new)
    rewrite(site.secret, new)
    site.server.accept(new)
    site.come_of(tasks + site.send(20))


def test_an_outage_is_diagnosed_and_the_tasks_are_done_when_it_has_passed(site: Site) -> None:
    printed = len(site.application.log)
    site.path.cut()
    tasks = site.send(4)
    eventually(lambda: {each.state for each in tasks} == {"RETRY"}, lambda: site.application.log)
    site.path.heal()
    site.come_of(tasks)
    said = site.application.log[printed:]
    assert "start the server, or correct the port in ZILLIZ_URI" in said
