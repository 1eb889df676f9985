"""The examples of deployments, parsed: Dockerfile, compose, Kubernetes, systemd and pipelines."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from dockerfile_parse import DockerfileParser

from tests.support.processes import REPOSITORY

EXAMPLES = REPOSITORY / "examples"
DOCKERFILE = EXAMPLES / "docker" / "Dockerfile"
COMPOSE = EXAMPLES / "docker" / "compose.yaml"
SECRET = EXAMPLES / "kubernetes" / "secret.yaml"
DEPLOYMENT = EXAMPLES / "kubernetes" / "deployment.yaml"
SERVICE_BINDING = EXAMPLES / "kubernetes" / "service-binding.yaml"
UNIT = EXAMPLES / "systemd" / "app.service"
GITHUB = EXAMPLES / "ci" / "github-actions.yml"
GITLAB = EXAMPLES / "ci" / "gitlab-ci.yml"
FILES = [
    path
    for directory in ("docker", "kubernetes", "systemd", "ci")
    for path in sorted((EXAMPLES / directory).iterdir())
    if path.is_file()
]


@cache
def documents(path: Path) -> list[dict[str, Any]]:
    """Return the documents of a YAML file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


# --- Docker -----------------------------------------------------------------------------------


def instructions(name: str) -> list[str]:
    """Return the values of the Dockerfile's instructions of one name, in order."""
    structure = DockerfileParser(str(DOCKERFILE)).structure
    return [each["value"] for each in structure if each["instruction"] == name]


def health_check() -> tuple[dict[str, int], list[str]]:
    """Return the options of the HEALTHCHECK, times in seconds, and its command."""
    options, _, command = instructions("HEALTHCHECK")[-1].partition("CMD")
    seconds = {name: int(number) for name, number in re.findall(r"--([\w-]+)=(\d+)s?\b", options)}
    return seconds, json.loads(command)


def compose() -> dict[str, Any]:
    """Return the compose file."""
    [document] = documents(COMPOSE)
    return document


# --- Kubernetes -------------------------------------------------------------------------------


def resources() -> list[dict[str, Any]]:
    """Return every resource of the Kubernetes examples."""
    return [each for path in (SECRET, DEPLOYMENT, SERVICE_BINDING) for each in documents(path)]


def named(kind: str, name: str) -> dict[str, Any]:
    """Return one resource."""
    [found] = [
        each for each in resources() if (each["kind"], each["metadata"]["name"]) == (kind, name)
    ]
    return found


def pods() -> list[dict[str, Any]]:
    """Return the specification of every pod."""
    return [
        each["spec"]["template"]["spec"]
        for each in resources()
        if "template" in each.get("spec", ())
    ]


def containers(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the containers of a pod, those that come first included."""
    return [*pod.get("initContainers", ()), *pod["containers"]]


def variables(container: Mapping[str, Any]) -> dict[str, str]:
    """Return a container's variables."""
    maps = [each["configMapRef"]["name"] for each in container.get("envFrom", ())]
    given = [named("ConfigMap", name)["data"] for name in maps]
    own = {each["name"]: each["value"] for each in container.get("env", ())}
    return {name: value for each in (*given, own) for name, value in each.items()}


# --- systemd ----------------------------------------------------------------------------------


def unit() -> dict[str, list[str]]:
    """Return what the unit sets, by name; sections do not share any."""
    settings: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        name, equals, value = line.partition("=")
        if equals and not name.startswith("#"):
            settings.setdefault(name, []).append(value)
    return settings
