"""The distribution is complete: built from itself, and used with the source away."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

import zconfig
from tests.support.processes import REPOSITORY

SMOKE = """
import importlib.metadata, pathlib, zconfig
from zconfig.testing import fake_server
print(pathlib.Path(zconfig.__file__).parent)
print(importlib.metadata.version("zilliz-zconfig"))
with fake_server() as server:
    print(zconfig.connections.connect("x", uri=server.uri).ping() > 0)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the source distribution is, and the wheel that was built of it."""
    directory = tmp_path_factory.mktemp("dist")
    # Without an environment of its own, for which it would ask the network; `make dist` makes one.
    command = ["build", "--no-isolation", "--outdir", str(directory), str(REPOSITORY)]
    subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
    return directory


def test_what_is_built_can_be_published(built: Path) -> None:
    files = sorted(built.iterdir())
    assert [file.suffix for file in files] == [".whl", ".gz"]
    check = [sys.executable, "-m", "twine", "check", "--strict", *files]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_source_distribution_has_every_file_of_the_repository(built: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split("\n")[:-1]
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert set(tracked) - inside <= {".gitignore"}


def test_the_wheel_works_without_the_source(built: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    wheel = next(built.glob("*.whl"))
    install = ["pip", "--python", str(python), "install", "--no-deps", "--quiet", str(wheel)]
    subprocess.run([sys.executable, "-m", *install], check=True)
    # It depends on what the tests have; their own zconfig is a .pth file there, which is not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))

    done = subprocess.run(
        [python, "-c", SMOKE], cwd=tmp_path, capture_output=True, text=True, env={}, check=False
    )
    assert done.stdout.splitlines() == [str(site / "zconfig"), zconfig.__version__, "True"], done
    command = [python.parent / "zconfig", "version"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env={}, check=True)
    assert zconfig.__version__ in said.stdout
