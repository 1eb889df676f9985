"""The examples of containers, units and pipelines: valid, consistent, and run as they would be."""

from __future__ import annotations

import json
import re
import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

import kubernetes_validate
import pytest

from tests.support.deployments import Task, secret_mount, tasks
from tests.support.example_files import (
    COMPOSE,
    DOCKERFILE,
    FILES,
    GITHUB,
    GITLAB,
    UNIT,
    compose,
    containers,
    documents,
    health_check,
    instructions,
    named,
    pods,
    resources,
    unit,
    variables,
)
from tests.support.processes import REPOSITORY, run
from zconfig._settings.load import load
from zconfig._settings.names import Name, parse_name
from zconfig._settings.options import LoaderOptions
from zconfig.errors import ExitCode

PAGES = [
    REPOSITORY / "docs" / "how-to" / f"{name}.md"
    for name in ("docker", "kubernetes", "systemd", "github-actions", "gitlab-ci")
]
TASKS = [pytest.param(task, id=task.name) for task in tasks()]

# What trying again cannot help, by the exit code alone.
PERMANENT = set(ExitCode) - {
    ExitCode.OK,
    ExitCode.UNEXPECTED,
    ExitCode.USAGE,
    ExitCode.UNREACHABLE,
}


# --- what they say ----------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_the_variables_and_secrets_of_an_example_are_a_valid_configuration(
    task: Task, tmp_path: Path
) -> None:
    environ = task.lay_out(tmp_path) | {"ZCONFIG_STRICT": "true"}
    configuration = load(environ, tmp_path, system_secrets=str(tmp_path / "none"))
    assert configuration.errors == ()
    assert len(configuration.aliases) == 1


@pytest.mark.parametrize("path", [*FILES, *PAGES], ids=lambda path: path.name)
def test_every_name_in_the_examples_is_known(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"\bZILLIZ_[A-Z0-9_]+|\bzilliz_[a-z0-9_]+", text):
        assert isinstance(parse_name(name), Name), name
    for name in re.findall(r"\bZCONFIG_([A-Z0-9_]+)", text):
        assert name.lower() in LoaderOptions.model_fields, name


# --- Docker -----------------------------------------------------------------------------------


def test_the_image_runs_as_somebody_else_than_root() -> None:
    user, group = map(int, instructions("USER")[-1].split(":"))
    assert user > 0 < group


def test_the_images_have_versions() -> None:
    images = [value.split()[0] for value in instructions("FROM")]
    images += [each["image"] for each in compose()["services"].values() if "image" in each]
    images += [each["image"] for pod in pods() for each in containers(pod)]
    images += [documents(GITLAB)[0]["preflight"]["image"]]
    assert len(images) >= 6
    assert [image for image in images if not re.search(r":v?\d+(\.\d+)+(-\w+)?$", image)] == []


def test_no_layer_of_the_image_knows_where_to_connect_or_as_whom() -> None:
    set_ = " ".join(instructions("ENV") + instructions("ARG"))
    assert not re.search("ZILLIZ|ZCONFIG|TOKEN|PASSWORD", set_)


def test_what_is_copied_into_the_image_is_sent_to_the_builder_and_nothing_else() -> None:
    copied = [value.split()[0] for value in instructions("COPY") if "--from" not in value]
    assert copied
    assert all((DOCKERFILE.parent / name).is_file() and not ignored(name) for name in copied)
    secret = compose()["secrets"]["zilliz_token"]["file"].removeprefix("./")
    for name in (".env", ".env.local", "app/.env", ".git/config", secret, "compose.yaml"):
        assert ignored(name), name


def ignored(name: str) -> bool:
    """Tell whether .dockerignore keeps a file from the builder: the last pattern decides."""
    patterns = (DOCKERFILE.parent / ".dockerignore").read_text(encoding="utf-8").splitlines()
    candidates = [name, *map(str, PurePosixPath(name).parents)]
    verdict = False
    for pattern in filter(lambda line: line and not line.startswith("#"), patterns):
        if any(fnmatch(each, pattern.removeprefix("!")) for each in candidates if each != "."):
            verdict = not pattern.startswith("!")
    return verdict


def test_the_health_check_says_what_is_wrong_before_it_is_killed() -> None:
    seconds, command = health_check()
    assert float(command[command.index("--timeout") + 1]) + 5 < seconds["timeout"]
    assert seconds["timeout"] < seconds["interval"]


def test_the_application_gets_the_signal_and_the_time_to_heed_it() -> None:
    started = json.loads(instructions("ENTRYPOINT")[-1]) + json.loads(instructions("CMD")[-1])
    assert started[0] == "uvicorn"  # and not a shell, which would keep the signal to itself
    graceful = int(started[started.index("--timeout-graceful-shutdown") + 1])
    assert graceful < int(compose()["services"]["app"]["stop_grace_period"].removesuffix("s"))
    assert all(graceful < pod.get("terminationGracePeriodSeconds", 30) for pod in pods())
    assert f"--timeout-graceful-shutdown {graceful}" in unit()["ExecStart"][0]
    assert graceful < int(unit()["TimeoutStopSec"][0])


def test_the_start_of_a_container_may_take_as_long_as_it_waits() -> None:
    wait = int(compose()["services"]["app"]["environment"]["ZCONFIG_WAIT"])
    assert health_check()[0]["start-period"] > wait
    for pod in pods():
        for container in containers(pod):
            if probe := container.get("startupProbe"):
                patience = probe["periodSeconds"] * probe["failureThreshold"]
                assert patience > int(variables(container)["ZCONFIG_WAIT"])


def test_compose_starts_the_application_when_milvus_answers() -> None:
    services = compose()["services"]
    assert services["app"]["depends_on"] == {"milvus": {"condition": "service_healthy"}}
    assert "healthcheck" in services["milvus"]
    assert services["app"]["environment"]["ZILLIZ_URI"] == "http://milvus:19530"
    assert services["milvus"]["environment"]["COMMON_SECURITY_AUTHORIZATIONENABLED"] == "true"


def test_the_secret_of_compose_is_made_as_the_page_says(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "how-to" / "docker.md").read_text(encoding="utf-8")
    [block] = [
        each for each in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "secrets" in each
    ]
    commands = [line for line in block.splitlines() if not line.startswith("docker")]
    assert run(["sh", "-eu", "-c", "umask 077; " + "\n".join(commands)]).returncode == 0
    secret = tmp_path / compose()["secrets"]["zilliz_token"]["file"]
    assert secret.read_text() == "root:Milvus"
    assert oct(secret.stat().st_mode)[-3:] == "644"  # the container's user is not its owner
    assert oct(secret.parent.stat().st_mode)[-3:] == "700"


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("vendor.compose-spec", COMPOSE),
        ("vendor.github-workflows", GITHUB),
        ("custom.github-workflows-require-timeout", GITHUB),
        ("vendor.gitlab-ci", GITLAB),
    ],
)
def test_a_file_has_the_schema_of_its_kind(schema: str, path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    done = run(command)
    assert done.returncode == 0, done.stdout


# --- Kubernetes -------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("resource", resources(), ids=lambda each: each["kind"])
def test_a_resource_has_the_schema_of_its_kind(resource: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(resource, version, strict=True)


CONTAINERS = [
    pytest.param(pod, container, id=container["name"])
    for pod in pods()
    for container in containers(pod)
]


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_a_container_may_do_nothing_that_it_need_not(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    user, group = map(int, instructions("USER")[-1].split(":"))
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": group,
        "fsGroup": group,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_a_secret_is_mounted_whole_and_readable_to_no_others(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    assert not any("subPath" in each for each in container["volumeMounts"])
    assert secret_mount(pod, container).mode == 0o440


def test_the_init_container_sees_what_the_application_sees() -> None:
    [pod] = [pod for pod in pods() if "initContainers" in pod]
    wait, app = containers(pod)
    assert wait["image"] == app["image"]
    assert variables(wait) == variables(app)
    assert secret_mount(pod, wait) == secret_mount(pod, app)


def test_the_selectors_and_ports_fit() -> None:
    deployment, service = named("Deployment", "app")["spec"], named("Service", "app")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert labels == deployment["selector"]["matchLabels"] == service["selector"]
    [port] = deployment["template"]["spec"]["containers"][0]["ports"]
    assert service["ports"][0]["targetPort"] == port["name"]
    entrypoint = json.loads(instructions("ENTRYPOINT")[-1])
    assert entrypoint[entrypoint.index("--port") + 1] == str(port["containerPort"])
    assert instructions("EXPOSE") == [str(port["containerPort"])]


# --- systemd ----------------------------------------------------------------------------------


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    copy = shutil.copy(UNIT, tmp_path)
    analyze = shutil.which("systemd-analyze")
    # Elsewhere the tests around this one have to do.
    said = run([analyze, "verify", "--man=no", str(copy)]).stderr if analyze else ""
    assert [line for line in said.splitlines() if UNIT.name in line] == []


def test_exit_codes_that_cannot_pass_end_the_attempts() -> None:
    [codes] = unit()["RestartPreventExitStatus"]
    assert set(map(int, codes.split())) == PERMANENT
    [rule] = named("Job", "preflight")["spec"]["podFailurePolicy"]["rules"]
    assert set(rule["onExitCodes"]["values"]) == PERMANENT
    assert rule["action"] == "FailJob"
    [pod] = [pod for pod in pods() if pod.get("restartPolicy") == "Never"]
    assert rule["onExitCodes"]["containerName"] == pod["containers"][0]["name"]


def test_the_unit_runs_as_nobody_in_particular_and_may_write_nowhere() -> None:
    settings = unit()
    for name in ("DynamicUser", "NoNewPrivileges", "ProtectHome", "PrivateTmp"):
        assert settings[name] == ["yes"], name
    assert settings["ProtectSystem"] == ["strict"]
    assert settings["CapabilityBoundingSet"] == [""]
    assert not re.search("TOKEN|PASSWORD", " ".join(settings["Environment"]))


# --- pipelines --------------------------------------------------------------------------------


def test_the_workflow_may_read_and_what_it_uses_has_a_version() -> None:
    workflow = documents(GITHUB)[0]
    assert workflow["permissions"] == {"contents": "read"}
    used = [
        step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step
    ]
    assert [each for each in used if not re.search(r"@(v\d+|[0-9a-f]{40})$", each)] == []


def test_nothing_is_deployed_before_the_preflight() -> None:
    assert documents(GITHUB)[0]["jobs"]["deploy"]["needs"] == "preflight"
    assert documents(GITLAB)[0]["deploy"]["needs"] == ["preflight"]
