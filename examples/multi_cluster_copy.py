"""Copy a collection to another cluster. After a failure, run it again to continue.

    ZILLIZ_SOURCE_URI=... ZILLIZ_TARGET_URI=... python multi_cluster_copy.py documents

Without these variables it copies from one Milvus Lite database to another; `--demo 5000` creates a
collection to copy first. The schema and the indexes are copied, partitions are not.

Rows are read in the order of their primary keys and upserted, so a batch can be written twice. The
last key that was written is kept in a file until all rows are copied.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from pymilvus import CollectionSchema, MilvusClient, MilvusException
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

import zconfig

LITE = {"source": {"uri": "./source.db"}, "target": {"uri": "./target.db"}}
NOT_OF_AN_INDEX = {"total_rows", "indexed_rows", "pending_index_rows", "state"}
FAILED, INTERRUPTED = 1, 130


def main() -> int:
    """Copy, and return the exit code: that of `zconfig check`, or 130 after Ctrl-C."""
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # a failure is printed below
    args, console = arguments(), Console(stderr=True)
    aliases = (args.source, args.target)
    try:
        for alias in LITE.keys() & set(aliases) - set(zconfig.connections):
            zconfig.connections.add_connection(**{alias: LITE[alias]})
        zconfig.autoconnect(*aliases)
        if args.demo:
            fill(zconfig.client(args.source), args.collection, args.demo)
        rows = copy(args, console)
    except KeyboardInterrupt:
        console.print("interrupted; run it again to continue")
        return INTERRUPTED
    except (zconfig.ZConfigError, MilvusException) as error:
        cause = cause_of(error, aliases)
        console.print(str(cause), style="red", markup=False, soft_wrap=True)
        return cause.exit_code if isinstance(cause, zconfig.ZConfigError) else FAILED
    console.print(f"{rows} rows in both")
    return 0


def arguments() -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description="Copy a collection from one cluster to another.")
    parser.add_argument("collection", nargs="?", default="documents")
    parser.add_argument("--source", default="source", metavar="ALIAS")
    parser.add_argument("--target", default="target", metavar="ALIAS")
    parser.add_argument("--batch-size", type=int, default=500, metavar="ROWS")
    parser.add_argument("--timeout", type=float, default=30, metavar="SECONDS")
    parser.add_argument("--demo", type=int, metavar="ROWS", help="create a collection first")
    return parser.parse_args()


def copy(args: argparse.Namespace, console: Console) -> int:
    """Copy the rows that are not copied yet, and return the number of rows in the target."""
    name, source, target = args.collection, *map(zconfig.client, (args.source, args.target))
    bookmark = Path(f"{name}.{args.source}-{args.target}.json")
    schema = CollectionSchema.construct_from_dict(source.describe_collection(name))
    key = schema.primary_field.name
    if not target.has_collection(name):
        bookmark.unlink(missing_ok=True)
        create_like(source, target, name, schema)
    for client in (source, target):
        client.load_collection(name, timeout=args.timeout)
    last = json.loads(bookmark.read_text()) if bookmark.exists() else None
    rows = source.query_iterator(
        name,
        args.batch_size,
        filter="" if last is None else f"{key} > {json.dumps(last)}",
        output_fields=["*"],
        timeout=args.timeout,
    )
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=console) as bar:
        done = 0 if last is None else count(target, name)
        task = bar.add_task(name, total=count(source, name), completed=done)
        while batch := rows.next():
            target.upsert(name, batch, timeout=args.timeout)
            save(bookmark, batch[-1][key])
            bar.advance(task, len(batch))
    rows.close()
    bookmark.unlink(missing_ok=True)
    read, written = count(source, name), count(target, name)
    if read != written:
        raise MilvusException(message=f"{args.source} has {read} rows, {args.target} {written}")
    return written


def save(bookmark: Path, key: int | str) -> None:
    """Write a key to a file atomically."""
    draft = bookmark.with_suffix(".draft")
    draft.write_text(json.dumps(key))
    draft.replace(bookmark)


def create_like(
    source: MilvusClient, target: MilvusClient, name: str, schema: CollectionSchema
) -> None:
    """Create a collection with the schema and the indexes of the source."""
    for keyed in (schema, schema.primary_field):
        keyed.auto_id = False  # otherwise the target generates new keys
    indexes = target.prepare_index_params()
    for index in source.list_indexes(name):
        found = source.describe_index(name, index)
        indexes.add_index(**{k: v for k, v in found.items() if k not in NOT_OF_AN_INDEX})
    target.create_collection(name, schema=schema, index_params=indexes)


def count(client: MilvusClient, name: str) -> int:
    """Return the number of rows, including those just written."""
    (counted,) = client.query(name, output_fields=["count(*)"], consistency_level="Strong")
    return int(counted["count(*)"])


def cause_of(error: Exception, aliases: tuple[str, ...]) -> Exception:
    """Return the error of a ping of either cluster, or else the error itself."""
    try:
        for alias in () if isinstance(error, zconfig.ZConfigError) else aliases:
            zconfig.connections[alias].ping()
    except zconfig.ZConfigError as cause:
        return cause
    return error


def fill(client: MilvusClient, name: str, rows: int) -> None:
    """Create a collection to copy."""
    client.create_collection(name, dimension=4)
    client.insert(name, [{"id": i, "vector": [i % 7, i % 11, 1, 0]} for i in range(rows)])


if __name__ == "__main__":
    sys.exit(main())
