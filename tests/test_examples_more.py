"""The example that moves over from pymilvus, and the one that copies a collection."""

from __future__ import annotations

import difflib
import json
import re
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import faults
from tests.support.processes import REPOSITORY, run
from tests.support.servers import CREDENTIALS, RealMilvus
from zconfig._channel.pymilvus_import import import_without_side_effects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Copy = Callable[..., subprocess.CompletedProcess[str]]

with import_without_side_effects():
    from pymilvus import DataType, MilvusClient

MIGRATION = REPOSITORY / "examples" / "migrate_from_pymilvus"
COPY = REPOSITORY / "examples" / "multi_cluster_copy.py"
PATIENCE_S = 120
ROWS = 600


# --- moving over from pymilvus --------------------------------------------------------------


@pytest.fixture
def _no_notes(milvus: RealMilvus) -> Iterator[None]:
    yield
    with connected(milvus) as client:
        client.drop_collection("notes")


@pytest.mark.usefixtures("_no_notes")
@pytest.mark.parametrize("version", ["before", "after"])
def test_both_versions_do_the_same(
    version: str, programs: Path, milvus: RealMilvus, milvus_b: RealMilvus
) -> None:
    environ = {
        "ZILLIZ_URI": milvus.uri,
        "ZILLIZ_TOKEN": CREDENTIALS,
        "ZILLIZ_REPORTS_URI": milvus_b.uri,
        "ZILLIZ_REPORTS_TOKEN": CREDENTIALS,
    }
    done = run([str(programs / "python"), str(MIGRATION / f"{version}.py")], environ=environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "3 notes",
        "notes among the reports: False",
        f"default 127.0.0.1:{milvus.port}",
        f"reports 127.0.0.1:{milvus_b.port}",
    ]


def test_what_cannot_be_reached_is_named_after_it(tmp_path: Path) -> None:
    with faults.refused() as port:
        environ = {"ZILLIZ_URI": f"http://127.0.0.1:{port}", "ZILLIZ_REPORTS_URI": "ftp://h"}
        done = run([sys.executable, str(MIGRATION / "after.py")], environ=environ)
    assert done.returncode == 3
    assert "ZILLIZ_REPORTS_URI" in done.stderr


def test_the_page_shows_their_difference() -> None:
    page = (REPOSITORY / "docs" / "migration.md").read_text(encoding="utf-8")
    before, after = (
        (MIGRATION / f"{name}.py").read_text(encoding="utf-8").splitlines(keepends=True)
        for name in ("before", "after")
    )
    shown = re.search(r"^```diff\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert shown
    lines = difflib.unified_diff(before, after, "before.py", "after.py")
    assert shown[1].splitlines() == [line.rstrip() for line in lines]


# --- copying a collection -------------------------------------------------------------------


@contextmanager
def connected(server: RealMilvus) -> Iterator[MilvusClient]:
    with closing(MilvusClient(server.uri, token=CREDENTIALS)) as client:
        yield client


@pytest.fixture
def source(milvus: RealMilvus) -> Iterator[MilvusClient]:
    """A cluster with a collection `documents`."""
    with connected(milvus) as client:
        make_documents(client)
        yield client
        client.drop_collection("documents")


@pytest.fixture
def target(milvus_b: RealMilvus) -> Iterator[MilvusClient]:
    """A cluster without it."""
    with connected(milvus_b) as client:
        yield client
        client.drop_collection("documents")


def make_documents(client: MilvusClient) -> None:
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("key", DataType.VARCHAR, max_length=20, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    schema.add_field("weight", DataType.DOUBLE)
    indexes = client.prepare_index_params()
    indexes.add_index("vector", "IVF_FLAT", "by_vector", metric_type="L2", params={"nlist": 16})
    client.create_collection(
        "documents", schema=schema, index_params=indexes, consistency_level="Strong"
    )
    client.insert("documents", [document(number) for number in range(ROWS)])


def document(number: int) -> dict[str, Any]:
    vector = [float(number % 7), 1.0, 0.0, 0.5]
    return {"key": f"k{number:05}", "vector": vector, "weight": number / 8, "tag": number % 3}


def documents(client: MilvusClient) -> list[dict[str, Any]]:
    """Return all rows, by their keys."""
    rows = client.query("documents", 'key >= ""', output_fields=["*"], consistency_level="Strong")
    return sorted((dict(row) for row in rows), key=lambda row: row["key"])


def between(source: RealMilvus, target: RealMilvus) -> dict[str, str]:
    return {
        "ZILLIZ_SOURCE_URI": source.uri,
        "ZILLIZ_SOURCE_TOKEN": CREDENTIALS,
        "ZILLIZ_TARGET_URI": target.uri,
        "ZILLIZ_TARGET_TOKEN": CREDENTIALS,
    }


@pytest.fixture
def copy(programs: Path) -> Copy:
    """Return what copies, and waits for the end."""

    def copy(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        command = [str(programs / "python"), str(COPY), *arguments]
        return run(command, environ=environ, timeout_s=PATIENCE_S)

    return copy


# It waits where it has copied a batch, until its standard input ends.
COPIES_AND_WAITS = """
import runpy, sys
from pathlib import Path

def replace_and_wait(draft, bookmark):
    replace(draft, bookmark)
    sys.stdin.read()

replace, Path.replace = Path.replace, replace_and_wait
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@contextmanager
def copying(*arguments: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """Start a copy, and wait until it is in the middle of it: `communicate` lets it go on."""
    process = subprocess.Popen(
        [sys.executable, "-c", COPIES_AND_WAITS, str(COPY), *arguments],
        env={"PYTHONPATH": str(REPOSITORY), **environ},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            wait_for(BOOKMARK.exists, process)
            yield process
        finally:
            process.kill()


BOOKMARK = Path("documents.source-target.json")


def wait_for(condition: Any, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def index_of(client: MilvusClient) -> dict[str, Any]:
    found: dict[str, Any] = client.describe_index("documents", "by_vector")
    return {key: found[key] for key in ("index_type", "metric_type", "nlist", "field_name")}


def schema_of(client: MilvusClient) -> object:
    described = client.describe_collection("documents")
    fields = [(f["name"], f["type"], f["params"]) for f in described["fields"]]
    return fields, described["enable_dynamic_field"], described["auto_id"]


def test_a_copy_has_the_rows_the_schema_and_the_indexes_once_even_if_made_twice(
    milvus: RealMilvus, milvus_b: RealMilvus, source: MilvusClient, target: MilvusClient, copy: Copy
) -> None:
    environ = between(milvus, milvus_b)
    for weight in (0.0, 100.0):
        source.upsert("documents", [{**document(0), "weight": weight}])
        done = copy(**environ)
        assert done.returncode == 0, done.stderr
        assert f"{ROWS} rows in both" in done.stderr
        first, *others = documents(target)
        assert first["weight"] == weight
        assert others == [document(number) for number in range(1, ROWS)]
    assert schema_of(target) == schema_of(source)
    assert index_of(target) == index_of(source)
    assert not BOOKMARK.exists()


def test_a_copy_that_was_killed_goes_on_where_it_was(
    milvus: RealMilvus, milvus_b: RealMilvus, source: MilvusClient, target: MilvusClient, copy: Copy
) -> None:
    environ = between(milvus, milvus_b)
    with copying("--batch-size", "5", **environ) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 0 < len(documents(target)) < ROWS
    marked = {**document(0), "weight": -1.0}
    target.upsert("documents", [marked])
    done = copy(**environ)
    assert done.returncode == 0, done.stderr
    # What was copied before is not copied again.
    assert documents(target) == [marked, *(document(n) for n in range(1, ROWS))]


def test_a_copy_can_be_interrupted_and_run_again_on_milvus_lite(copy: Copy) -> None:
    with copying("--demo", "1000", "--batch-size", "10") as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "interrupted; run it again to continue" in said
    assert "Traceback" not in said
    assert 0 < json.loads(BOOKMARK.read_text()) < 999
    done = copy()
    assert done.returncode == 0, done.stderr
    assert "1000 rows in both" in done.stderr


def test_rows_that_are_in_the_target_alone_are_told(
    milvus: RealMilvus, milvus_b: RealMilvus, source: MilvusClient, target: MilvusClient, copy: Copy
) -> None:
    make_documents(target)
    target.insert("documents", [document(ROWS)])
    done = copy(**between(milvus, milvus_b))
    assert done.returncode == 1
    assert f"source has {ROWS} rows, target {ROWS + 1}" in done.stderr


def test_a_copy_survives_an_outage_of_the_target(
    milvus: RealMilvus, own_milvus: RealMilvus, source: MilvusClient, copy: Copy
) -> None:
    environ = between(milvus, own_milvus)
    with copying("--batch-size", "5", "--timeout", "5", **environ) as process:
        own_milvus.stop()
        _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 4, said
    assert "target: " in said
    assert "ZILLIZ_TARGET_URI" in said
    assert "Traceback" not in said
    own_milvus.start()
    own_milvus.wait_ready()
    done = copy(**environ)
    assert done.returncode == 0, done.stderr
    with connected(own_milvus) as client:
        assert documents(client) == documents(source)


def test_an_error_names_the_cluster_and_the_cause(milvus: RealMilvus, copy: Copy) -> None:
    environ = {**between(milvus, milvus), "ZILLIZ_TARGET_TOKEN": "root:wrong"}
    done = copy(**environ)
    assert done.returncode == 6
    assert "target: " in done.stderr
    assert "ZILLIZ_TARGET_TOKEN" in done.stderr


def test_a_collection_that_is_missing_is_told(
    milvus: RealMilvus, milvus_b: RealMilvus, copy: Copy
) -> None:
    done = copy("nothing", **between(milvus, milvus_b))
    assert done.returncode == 1
    assert "nothing" in done.stderr
    assert "Traceback" not in done.stderr
