"""The commands of the examples of containers, units and pipelines, run as they would be there."""

from __future__ import annotations

import json
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import faults
from tests.support.deployments import Task, tasks
from tests.support.ears import Ears
from tests.support.example_files import DOCKERFILE, FILES, GITLAB, documents, named
from tests.support.processes import REPOSITORY, run
from zconfig import events
from zconfig._cli.app import COMMANDS
from zconfig._registry import Connections
from zconfig._settings.load import load
from zconfig.errors import ExitCode
from zconfig.testing import FakeServer, fake_server

BY_NAME = {task.name: task for task in tasks()}
TASKS = [pytest.param(task, id=name) for name, task in BY_NAME.items()]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as fake:
        yield fake


@pytest.mark.parametrize("task", TASKS)
def test_a_command_succeeds_with_the_secrets_of_its_example(
    task: Task, server: FakeServer, tmp_path: Path
) -> None:
    server.accept(task.presents)
    done = task.at(server.uri).run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(server.calls("Connect")) > 0


@pytest.mark.parametrize("task", TASKS)
def test_a_command_exits_6_at_once_where_the_secret_is_a_wrong_one(
    task: Task, server: FakeServer, tmp_path: Path
) -> None:
    server.accept("another")
    done = task.at(server.uri).run(tmp_path)
    assert done.returncode == ExitCode.AUTHENTICATION, done.stdout + done.stderr
    assert "started" not in done.stdout
    assert task.presents not in done.stdout + done.stderr


def test_every_command_in_the_examples_is_among_them() -> None:
    a_command = re.compile(rf"\bzconfig\b[\", ]+(?:{'|'.join(COMMANDS)})\b")
    lines = [line for path in FILES for line in path.read_text(encoding="utf-8").splitlines()]
    found = [each for each in lines if a_command.search(each) and not each.lstrip().startswith("#")]
    assert len(found) == len(TASKS), found


def test_the_health_check_does_not_wait_for_a_server_that_is_away(tmp_path: Path) -> None:
    with faults.refused() as port:
        done = BY_NAME["HEALTHCHECK"].at(f"http://127.0.0.1:{port}").run(tmp_path)
    assert (done.returncode, done.stdout) == (ExitCode.UNREACHABLE, "")
    assert "connection refused: " in done.stderr  # and not "after 38 attempts"


def test_the_gitlab_job_leaves_the_report_that_it_promises(
    server: FakeServer, tmp_path: Path
) -> None:
    BY_NAME["GitLab job"].at(server.uri).run(tmp_path)
    report = documents(GITLAB)[0]["preflight"]["artifacts"]["reports"]["junit"]
    assert ET.parse(tmp_path / report).findall(".//testcase")  # noqa: S314 - it is our own


def test_systemd_starts_the_application_after_the_wait(server: FakeServer, tmp_path: Path) -> None:
    done = BY_NAME["ExecStart"].at(server.uri).run(tmp_path)
    assert done.stdout.splitlines()[-1].startswith("started with app:app")


# --- a secret that changes --------------------------------------------------------------------


# systemd's credentials stay what they are while a service runs, and so do variables.
@pytest.mark.parametrize("name", ["HEALTHCHECK", "container wait", "container preflight"])
def test_a_secret_that_changes_under_a_running_application_counts(
    name: str, server: FakeServer, tmp_path: Path
) -> None:
    task = BY_NAME[name].at(server.uri)
    changed = f"{task.presents}-2"
    server.accept(task.presents, changed)
    environ = task.lay_out(tmp_path)
    connections = Connections(lambda: load(environ, tmp_path, system_secrets="none"))
    try:
        ears = Ears(connections)
        [alias] = connections
        connections[alias].ping()
        with_other_password(task).lay_out(tmp_path)
        ears.wait_for(events.ConnectionRotated)
        server.accept(changed)
        connections[alias].ping()
    finally:
        connections.close()


def with_other_password(task: Task) -> Task:
    assert task.mount
    files = dict(task.mount.files)
    name = "password" if "password" in files else "zilliz_token"
    return replace(task, mount=replace(task.mount, files=files | {name: f"{files[name]}-2"}))


# --- the application, as it is asked ----------------------------------------------------------


def probe_paths() -> dict[str, str]:
    [app] = named("Deployment", "app")["spec"]["template"]["spec"]["containers"]
    return {
        kind: app[f"{kind}Probe"]["httpGet"]["path"]
        for kind in ("liveness", "readiness", "startup")
    }


def test_the_probes_tell_a_database_that_is_away_from_a_process_that_is_stuck(
    server: FakeServer,
) -> None:
    assert answers(server.uri) == {"liveness": 200, "readiness": 200, "startup": 200}
    with faults.refused() as port:
        assert answers(f"http://127.0.0.1:{port}", open_="") == {
            "liveness": 200,
            "readiness": 503,
            "startup": 200,
        }


ASK = """
import asyncio, json, sys
from contextlib import nullcontext
from app import app

async def status(path):
    sent = []
    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
    async def send(message):
        sent.append(message)
    await app(scope, None, send)
    return sent[0]["status"]

async def main(paths, open_):
    # Where the server is away from the beginning, the application would not start at all.
    async with app.router.lifespan_context(app) if open_ else nullcontext():
        return {kind: await status(path) for kind, path in paths.items()}

print(json.dumps(asyncio.run(main(json.loads(sys.argv[1]), sys.argv[2]))))
"""


def answers(uri: str, open_: str = "open") -> dict[str, int]:
    command = [sys.executable, "-W", "error", "-c", ASK, json.dumps(probe_paths()), open_]
    environ = {"ZILLIZ_URI": uri, "PYTHONPATH": f"{REPOSITORY}:{DOCKERFILE.parent}"}
    done = run(command, environ=environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
