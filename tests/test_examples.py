"""The examples run as they stand."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from tests.support.processes import REPOSITORY, run
from tests.support.servers import RealMilvus

QUICKSTART = REPOSITORY / "examples" / "quickstart"


def quickstart(directory: Path, **environ: str) -> tuple[str, str]:
    """Run the quickstart where nothing of an earlier run is; return what it printed."""
    copy = shutil.copytree(
        QUICKSTART, directory / "quickstart", ignore=shutil.ignore_patterns("*.db")
    )
    done = run([sys.executable, "quickstart.py"], environ=environ, directory=Path(copy))
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_the_quickstart_connects_shows_and_searches_on_milvus_lite(tmp_path: Path) -> None:
    out, err = quickstart(tmp_path)
    rows = [line.split()[:2] for line in out.splitlines()[3:5]]
    assert rows == [["default", "./notes.db"], ["analytics", "./analytics.db"]]
    answers = out.split("Which variable holds the API key?")[1].splitlines()
    assert "ZILLIZ_API_KEY" in answers[1]
    assert err.count("zconfig.connection.connected") == 2
    assert err.count("zconfig.connection.closed") == 2


def test_the_quickstart_runs_unchanged_on_a_milvus_server(
    milvus: RealMilvus, tmp_path: Path
) -> None:
    out, _ = quickstart(tmp_path, ZILLIZ_URI=milvus.uri, ZILLIZ_TOKEN="root:Milvus")
    assert f"{milvus.uri} " in out
    assert "ZILLIZ_URI (environment)" in out
    assert "ZILLIZ_API_KEY" in out.split("Which variable holds the API key?")[1]
