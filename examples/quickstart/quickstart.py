"""Connect from environment variables, and search in one of the databases.

Run it in this directory, whose `.env` declares the connections. It shows the lifecycle events
on standard error and the results on standard output.
"""

from __future__ import annotations

import itertools
import math
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

import zconfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pymilvus import MilvusClient

COLLECTION = "zconfig_quickstart"
DIMENSION = 512
QUESTIONS = (
    "Which variable holds the API key?",
    "What happens when the server is not up yet?",
    "How do I run Milvus inside my own process?",
)


def main() -> None:
    """Connect every declared alias, print the connections, and search."""
    zconfig.configure_logging("console")
    connections = zconfig.autoconnect()
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # one line for each row, in a log
    console.print(overview(connections.values()))
    client = zconfig.client()
    passages = read_passages(Path(__file__).with_name("passages.txt"))
    fill(client, passages)
    for question in QUESTIONS:
        console.print(f"[bold]{question}[/]")
        for score, text in search(client, question):
            console.print(f"  {score:.2f}  {text}", soft_wrap=True)
    client.drop_collection(COLLECTION)
    zconfig.connections.close()


def overview(connections: Iterable[zconfig.Connection]) -> Table:
    """Return a table of open connections; each is pinged once."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("alias", "endpoint", "server", "round trip", "configured by"):
        table.add_column(header, overflow="fold", min_width=len(header))
    for each in connections:
        cells = (
            each.alias,
            shown(each.endpoint.uri),
            each.server.version,
            f"{each.ping():.1f} ms",
            str(each.spec.origin()),
        )
        table.add_row(*(Text(cell) for cell in cells))
    return table


def shown(uri: str) -> str:
    """Return the path of an embedded database, relative to this directory, or any other URI."""
    path = Path(uri)
    return f"./{path.relative_to(Path.cwd())}" if path.is_relative_to(Path.cwd()) else uri


def read_passages(path: Path) -> list[str]:
    """Return the passages of a text file, one for each line."""
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line]


def fill(client: MilvusClient, passages: list[str]) -> None:
    """Create the collection again, and insert every passage with its vector."""
    if client.has_collection(COLLECTION):
        client.drop_collection(COLLECTION)
    client.create_collection(
        COLLECTION, dimension=DIMENSION, metric_type="COSINE", consistency_level="Strong"
    )
    rows = ({"id": i, "vector": embed(text), "text": text} for i, text in enumerate(passages))
    client.insert(COLLECTION, list(rows))


def search(client: MilvusClient, question: str) -> Iterable[tuple[float, str]]:
    """Yield the best passages for a question, with their scores."""
    hits = client.search(COLLECTION, data=[embed(question)], limit=2, output_fields=["text"])
    for hit in hits[0]:
        yield hit["distance"], hit["entity"]["text"]


def embed(text: str) -> list[float]:
    """Return a vector of the words and letter triples of a text, hashed into `DIMENSION` places.

    It needs no model and no network, and finds passages that share words or parts of words.
    """
    words = re.findall(r"[a-z]+", text.lower())
    triples = itertools.chain.from_iterable(
        (f" {word} "[i : i + 3] for i in range(len(word))) for word in words
    )
    return normalised(Counter(zlib.crc32(part.encode()) % DIMENSION for part in (*words, *triples)))


def normalised(counts: Mapping[int, int]) -> list[float]:
    """Return a vector of length 1 in which frequent parts weigh less than their count."""
    weights = {place: math.sqrt(count) for place, count in counts.items()}
    length = math.sqrt(sum(weight**2 for weight in weights.values())) or 1.0
    return [weights.get(place, 0.0) / length for place in range(DIMENSION)]


if __name__ == "__main__":
    main()
