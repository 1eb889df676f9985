"""Write notes to one cluster and read from another, with pymilvus."""

import os
import sys
import time

from pymilvus import MilvusClient, MilvusException, connections, utility

NOTES = ("declare it", "check it", "watch it")


def connect(alias: str, uri: str, token: str) -> None:
    """Connect an alias; servers may still be starting."""
    for pause_s in (1, 2, 4, 8, 0):
        try:
            connections.connect(alias, uri=uri, token=token)
        except MilvusException as error:
            print(f"{alias}: {error}", file=sys.stderr)
            time.sleep(pause_s)
        else:
            return
    sys.exit(f"{alias}: cannot connect")


def main() -> None:
    """Write and read notes, and print the address of each alias."""
    uri, token = os.environ["ZILLIZ_URI"], os.getenv("ZILLIZ_TOKEN", "")
    connect("default", uri, token)
    connect("reports", os.environ["ZILLIZ_REPORTS_URI"], os.getenv("ZILLIZ_REPORTS_TOKEN", ""))
    client = MilvusClient(uri, token=token)
    write(client)
    print(len(client.query("notes", "id >= 0", consistency_level="Strong")), "notes")
    print("notes among the reports:", utility.has_collection("notes", using="reports"))
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
