"""The example for FastAPI under uvicorn: under load, and in trouble."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.applications import (
    Application,
    rewrite,
    running,
    under_load,
)
from tests.support.faults import LOOPBACK, BreakableProxy, breakable_proxy
from zconfig.testing import FakeServer, fake_server

PING = "/health/default"
READY = {"ready": True, "aliases": {"default": {"state": "connected", "required": True}}}
LOST = {"ready": False, "aliases": {"default": {"state": "lost", "required": True}}}


@contextmanager
def uvicorn(directory: Path, *options: str, **environ: str) -> Iterator[Application]:
    with socket.create_server((LOOPBACK, 0)) as listener:
        fd, port = listener.fileno(), listener.getsockname()[1]
        how = ["uvicorn", "fastapi_app:app", f"--fd={fd}", *options]
        with running(*how, directory=directory, port=port, fds=(fd,), **environ) as application:
            listener.close()  # it has its own
            yield application


@dataclass(frozen=True)
class Site:
    """An application, and all that it depends on."""

    application: Application
    server: FakeServer
    path: BreakableProxy
    secret: Path


@pytest.fixture(scope="module")
def _site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("uvicorn")
    secret = directory / "token"
    rewrite(secret, "user:first")
    with fake_server() as server, breakable_proxy(server.port) as path:
        server.accept("user:first")
        environ = {"ZILLIZ_URI": f"http://{LOOPBACK}:{path.port}", "ZILLIZ_TOKEN_FILE": str(secret)}
        with uvicorn(directory, **environ) as application:
            yield Site(application, server, path, secret)


@pytest.fixture
def site(_site: Site) -> Site:
    """Serve with an application that is well."""
    assert _site.application.wait_for("/ready", 200).document == READY
    return _site


def test_it_is_ready_when_it_has_started_and_asks_nobody_for_that(site: Site) -> None:
    before = len(site.server.calls())
    for _ in range(20):
        assert site.application.ask("/ready") == (200, READY)
    assert site.application.ask("/ready", "HEAD") == (200, None)
    assert site.application.ask("/ready", "POST").status == 405
    assert len(site.server.calls()) == before


def test_a_rotated_secret_fails_no_request(site: Site) -> None:
    old = site.secret.read_text()
    new = f"{old}-and-more"
    with under_load(site.application, PING) as load:
        site.server.accept(old, new)
        rewrite(site.secret, new)
        site.server.accept(new)
        load.wait_for_more(100)
    assert (load.failures, load.unanswered) == ([], [])


def test_an_outage_is_diagnosed_and_passes_without_a_restart(site: Site) -> None:
    with under_load(site.application, PING) as load:
        site.path.cut()
        assert site.application.wait_for("/ready", 503).document == LOST
        diagnosed = site.application.wait_for(PING, 503).document["error"]
        site.path.heal()
        assert site.application.wait_for("/ready", 200).document == READY
        load.wait_until_well()
    assert "start the server, or correct the port in ZILLIZ_URI" in diagnosed
    assert load.unanswered == []
    assert site.application.process.poll() is None


def test_it_ends_cleanly_while_requests_come(tmp_path: Path) -> None:
    with fake_server() as server, uvicorn(tmp_path, ZILLIZ_URI=server.uri) as application:
        application.wait_for("/ready", 200)
        with under_load(application, PING) as load:
            code = application.stop(signal.SIGTERM)
            load.stop()
        assert code in (0, -signal.SIGTERM)  # uvicorn hands the signal on, since 0.29
        assert load.failures == []
        assert "Traceback" not in application.log
        assert "Task" not in application.log
