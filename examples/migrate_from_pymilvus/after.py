"""Write notes to one cluster and read from another, with zconfig."""

import sys

from pymilvus import MilvusClient

import zconfig
from zconfig import connections

NOTES = ("declare it", "check it", "watch it")


def main() -> None:
    """Write and read notes, and print the address of each alias."""
    try:
        zconfig.autoconnect(wait=15)  # servers may still be starting
    except zconfig.ZConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    client = zconfig.client()
    write(client)
    print(len(client.query("notes", "id >= 0", consistency_level="Strong")), "notes")
    print("notes among the reports:", zconfig.client("reports").has_collection("notes"))
    for alias, _ in connections.list_connections():
        print(alias, connections.get_connection_addr(alias)["address"])
        connections.disconnect(alias)


def write(client: MilvusClient) -> None:
    """Write the notes, and replace those of an earlier run."""
    if not client.has_collection("notes"):
        client.create_collection("notes", dimension=2)
    rows = [{"id": i, "vector": [i, 1], "text": text} for i, text in enumerate(NOTES)]
    client.upsert("notes", rows)


if __name__ == "__main__":
    main()
