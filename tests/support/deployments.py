"""The examples of deployments, started as a container runtime, systemd or a pipeline would.

Their commands run in processes of this machine, with the files laid out below a directory that
stands for the root of the file system.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tests.support import fork_server
from tests.support.example_files import (
    GITHUB,
    GITLAB,
    compose,
    containers,
    documents,
    health_check,
    named,
    pods,
    unit,
    variables,
)
from tests.support.processes import run
from tests.test_sources_generation import Volume

STORED = {"ZILLIZ_URI": "https://example.invalid", "ZILLIZ_TOKEN": "root:Milvus"}
"""What a pipeline's settings hold."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A directory with files of secrets.

    Args:
        path: Where it is mounted.
        files: Their contents, by name.
        mode: Their mode.
        is_volume: Whether they lie as in a Kubernetes volume.
    """

    path: str
    files: Mapping[str, str]
    mode: int
    is_volume: bool = False

    def lay_out(self, root: Path) -> None:
        """Write the files below a directory, anew if they are there already."""
        directory = root / self.path.lstrip("/")
        if self.is_volume:
            _volume(directory).rotate(dict(self.files))
        else:
            directory.mkdir(parents=True, exist_ok=True)
            for name, content in self.files.items():
                (directory / name).write_text(content)
        for name in self.files:
            (directory / name).chmod(self.mode)


@cache
def _volume(directory: Path) -> Volume:
    """Return the one for a directory: it numbers its generations."""
    return Volume(directory)


@dataclass(frozen=True, slots=True)
class Task:
    """A command of an example.

    Args:
        name: What the example calls it.
        command: The program and its arguments.
        environ: Its variables, as the example sets them.
        presents: The credentials that a server gets to see, `user:password`.
        mount: Its secrets, if they are files.
    """

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str]
    presents: str
    mount: Mount | None = None

    def at(self, uri: str) -> Task:
        """Return the same with another server."""
        environ, mount = dict(self.environ), self.mount
        if "ZILLIZ_URI" in environ:
            environ["ZILLIZ_URI"] = uri
        elif mount:
            mount = replace(mount, files={**mount.files, "uri": uri})
        return replace(self, environ=environ, mount=mount)

    def lay_out(self, root: Path) -> dict[str, str]:
        """Write the secrets below a directory, and return the variables that lead there."""
        if self.mount:
            self.mount.lay_out(root)
        return {name: _below(root, value) for name, value in self.environ.items()}

    def run(self, root: Path) -> subprocess.CompletedProcess[str]:
        """Run it, below a directory."""
        environ = self.lay_out(root) | {"PATH": f"{_programs(root)}:/usr/bin:/bin"}
        return run(list(self.command), environ=environ, directory=root)


def _below(root: Path, value: str) -> str:
    return f"{root}{value}" if value.startswith("/") else value


def _programs(root: Path) -> Path:
    """Return a directory with the command, and with stand-ins for what comes after it."""
    directory = root / "bin"
    directory.mkdir(exist_ok=True)
    programs = {
        "zconfig": f'exec "{fork_server.programs / "zconfig"}" "$@"',
        "uvicorn": 'echo "started with $*"',
    }
    for name, line in programs.items():
        (directory / name).write_text(f"#!/bin/sh\n{line}\n")
        (directory / name).chmod(0o755)
    return directory


def tasks() -> list[Task]:
    """Return every command of ours in the examples."""
    return [_health_check(), *_of_pods(), _unit(), _github_step(), _gitlab_job()]


# --- Docker -----------------------------------------------------------------------------------


def _health_check() -> Task:
    service = compose()["services"]["app"]
    [name] = service["secrets"]
    # Where zconfig looks by itself; here it has to be told, since the root is another.
    environ = service["environment"] | {"ZCONFIG_SECRETS_DIR": "/run/secrets"}
    mount = Mount("/run/secrets", {name: "root:Milvus"}, 0o644)
    return Task("HEALTHCHECK", tuple(health_check()[1]), environ, "root:Milvus", mount)


# --- Kubernetes -------------------------------------------------------------------------------


def secret_mount(pod: Mapping[str, Any], container: Mapping[str, Any]) -> Mount:
    """Return a container's secrets, as the kubelet mounts them."""
    volumes = {each["name"]: each["secret"] for each in pod["volumes"] if "secret" in each}
    [mount] = [each for each in container["volumeMounts"] if each["name"] in volumes]
    volume = volumes[mount["name"]]
    files = named("Secret", volume["secretName"])["stringData"]
    return Mount(mount["mountPath"], files, volume["defaultMode"], is_volume=True)


def _of_pods() -> Iterator[Task]:
    for pod in pods():
        for container in containers(pod):
            if "command" in container:  # the others run the image's own
                mount = secret_mount(pod, container)
                files = mount.files
                presents = files.get("zilliz_token") or f"{files['username']}:{files['password']}"
                command, environ = tuple(container["command"]), variables(container)
                yield Task(f"container {container['name']}", command, environ, presents, mount)


# --- systemd ----------------------------------------------------------------------------------


def _unit() -> Task:
    settings = unit()
    directory = "/run/credentials/app.service"
    environ = dict(value.split("=", 1) for value in settings["Environment"])
    environ = {name: value.replace("%d", directory) for name, value in environ.items()}
    credential = settings["LoadCredential"][0].partition(":")[0]
    mount = Mount(directory, {credential: "root:Milvus\n"}, 0o400)
    [command] = settings["ExecStart"]
    return Task("ExecStart", tuple(shlex.split(command)), environ, "root:Milvus", mount)


# --- pipelines --------------------------------------------------------------------------------


def _github_step() -> Task:
    job = documents(GITHUB)[0]["jobs"]["preflight"]
    [line] = [each["run"] for each in job["steps"] if "zconfig check" in each.get("run", "")]
    environ = {name: _stored(value) for name, value in job["env"].items()}
    return Task("GitHub step", ("sh", "-c", line), environ, STORED["ZILLIZ_TOKEN"])


def _stored(value: str) -> str:
    return re.sub(r"\$\{\{ (?:vars|secrets)\.(\w+) \}\}", lambda found: STORED[found[1]], value)


def _gitlab_job() -> Task:
    job = documents(GITLAB)[0]["preflight"]
    environ = STORED | job["variables"]
    return Task("GitLab job", ("sh", "-c", *job["script"]), environ, STORED["ZILLIZ_TOKEN"])
