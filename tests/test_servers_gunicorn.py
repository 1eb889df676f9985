"""The example for gunicorn: four workers of a preloaded master, under load and in trouble."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.applications import Application, eventually, rewrite, running, under_load
from tests.support.faults import LOOPBACK, BreakableProxy, breakable_proxy, refused
from tests.support.servers import CREDENTIALS, RealMilvus
from zconfig.testing import FakeServer, fake_server

WORKERS = 4
PING = "/ping/default"
READY = {"ready": True, "aliases": {"default": {"state": "connected", "required": True}}}
LOST = {"ready": False, "aliases": {"default": {"state": "lost", "required": True}}}


@contextmanager
def gunicorn(directory: Path, **environ: str) -> Iterator[Application]:
    with socket.create_server((LOOPBACK, 0), backlog=64) as listener:
        how = ["--preload", f"--workers={WORKERS}", f"--bind=fd://{listener.fileno()}"]
        port: int = listener.getsockname()[1]
        with running(
            *("gunicorn", *how, "gunicorn_app:app"),
            directory=directory,
            port=port,
            fds=(listener.fileno(),),
            **environ,
        ) as application:
            yield application


def workers_of(application: Application) -> set[int]:
    """Return who answers; each worker has its turn."""
    seen: set[int] = set()

    def are_all_seen() -> bool:
        status, document = application.attempt(PING)
        if status == 200:
            seen.add(document["worker"])
        return len(seen) == WORKERS

    eventually(are_all_seen, lambda: f"{application.log}\n{seen}")
    return seen


def is_ready(application: Application) -> None:
    """Wait until every worker says so, as far as that can be seen from outside."""
    assert application.wait_for("/ready", 200, in_a_row=5 * WORKERS).document == READY


@dataclass(frozen=True)
class Site:
    """An application, and all that it depends on."""

    application: Application
    server: FakeServer
    path: BreakableProxy
    secret: Path


@pytest.fixture(scope="module")
def _site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("gunicorn")
    secret = directory / "token"
    rewrite(secret, "user:first")
    with fake_server() as server, breakable_proxy(server.port) as path:
        server.accept("user:first")
        environ = {"ZILLIZ_URI": f"http://{LOOPBACK}:{path.port}", "ZILLIZ_TOKEN_FILE": str(secret)}
        with gunicorn(directory, **environ) as application:
            yield Site(application, server, path, secret)
            assert application.stop(signal.SIGTERM) == 0, application.log
            assert "Traceback" not in application.log


@pytest.fixture
def site(_site: Site) -> Site:
    """Serve with workers that are all well."""
    workers_of(_site.application)
    is_ready(_site.application)
    return _site


def test_each_worker_answers_over_a_connection_of_its_own(site: Site) -> None:
    workers = workers_of(site.application)
    assert site.application.process.pid not in workers
    assert len({call.peer for call in site.server.calls("GetVersion")}) >= WORKERS


def test_a_worker_that_is_killed_is_replaced_and_nobody_else_fails(site: Site) -> None:
    before = workers_of(site.application)
    with under_load(site.application, PING) as load:
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: workers_of(site.application) - before)
    assert victim not in workers_of(site.application)
    assert load.failures == []
    assert len(load.unanswered) <= 1  # what the victim was just working on


def test_a_rolling_restart_fails_no_request(site: Site) -> None:
    before = workers_of(site.application)
    with under_load(site.application, PING) as load:
        site.application.process.send_signal(signal.SIGHUP)
        eventually(lambda: not workers_of(site.application) & before)
    assert (load.failures, load.unanswered) == ([], [])


def test_a_rotated_secret_fails_no_request(site: Site) -> None:
    old = site.secret.read_text()
    new = f"{old}-and-more"
    with under_load(site.application, PING) as load:
        site.server.accept(old, new)
        rewrite(site.secret, new)
        site.server.accept(new)
        load.wait_for_more(100)
    assert (load.failures, load.unanswered) == ([], [])
    assert len(workers_of(site.application)) == WORKERS


def test_an_outage_is_diagnosed_and_passes_without_a_restart(site: Site) -> None:
    before = workers_of(site.application)
    with under_load(site.application, PING) as load:
        site.path.cut()
        not_ready = site.application.wait_for("/ready", 503, in_a_row=5 * WORKERS)
        seen = len(load.answers)
        load.wait_for_more()
        site.path.heal()
        is_ready(site.application)
        load.wait_until_well()
    assert not_ready.document == LOST
    assert {each.status for each in load.answers[seen + 3 : seen + 20]} == {503}
    errors = {each.document["error"] for each in load.failures}
    assert any("start the server, or correct the port in ZILLIZ_URI" in each for each in errors)
    assert load.unanswered == []
    assert workers_of(site.application) == before


def test_it_does_not_start_without_a_required_connection_and_says_what_to_do(
    tmp_path: Path,
) -> None:
    with refused() as port, gunicorn(tmp_path, ZILLIZ_URI=f"http://{LOOPBACK}:{port}") as app:
        eventually(lambda: app.process.poll() is not None)
        assert app.process.returncode != 0
        assert "start the server, or correct the port in ZILLIZ_URI" in app.log


def test_the_real_server_may_restart_under_it(own_milvus: RealMilvus, tmp_path: Path) -> None:
    with gunicorn(tmp_path, ZILLIZ_URI=own_milvus.uri, ZILLIZ_TOKEN=CREDENTIALS) as application:
        is_ready(application)
        before = workers_of(application)
        with under_load(application, PING) as load:
            own_milvus.stop()
            assert application.wait_for("/ready", 503).document == LOST
            diagnosed = application.wait_for(PING, 503).document["error"]
            own_milvus.start()
            own_milvus.wait_ready()
            is_ready(application)
            load.wait_until_well()
        assert "start the server, or correct the port in ZILLIZ_URI" in diagnosed
        assert load.unanswered == []
        assert workers_of(application) == before
