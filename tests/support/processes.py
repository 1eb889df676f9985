"""Programs run with an environment of their own; the command also in this process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path

from click.testing import CliRunner

from zconfig._cli.app import zconfig

REPOSITORY = Path(__file__).resolve().parents[2]
_KEPT = ("PATH", "HOME", "LANG", "SYSTEMROOT", "TMPDIR")


def run(
    arguments: list[str],
    *,
    environ: Mapping[str, str] | None = None,
    directory: Path | None = None,
    timeout_s: float = 180,
) -> subprocess.CompletedProcess[str]:
    """Run a program with nothing in its environment but what is given."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return subprocess.run(
        arguments,
        env={**kept, "PYTHONPATH": str(REPOSITORY), **(environ or {})},
        cwd=directory or Path.cwd(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def run_python(
    source: str, *, environ: Mapping[str, str] | None = None, warnings: str = "error"
) -> subprocess.CompletedProcess[str]:
    """Run Python source."""
    code = textwrap.dedent(source)
    return run([sys.executable, "-W", warnings, "-c", code], environ=environ)


def run_zconfig(
    *arguments: str, environ: Mapping[str, str] | None = None, directory: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command as its console script does."""
    start = "from zconfig._cli import main; main()"
    return run([sys.executable, "-c", start, *arguments], environ=environ, directory=directory)


def call_zconfig(
    *arguments: str, environ: Mapping[str, str] | None = None, directory: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, where nothing depends on its having one of its own."""
    with chdir(directory or Path.cwd()):
        done = CliRunner(env=environ).invoke(zconfig, arguments)
    if not isinstance(done.exception, SystemExit | None):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)
