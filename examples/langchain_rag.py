"""Answer a question from this repository's documentation, with LangChain's Milvus store.

    pip install './zconfig[langchain,lite]'
    ZILLIZ_URI=./docs.db python zconfig/examples/langchain_rag.py \
        "How do I set the interval of the HTTP/2 pings?"

`ZILLIZ_URI` selects the server that stores the passages: a path is Milvus Lite in this process, and
`https://….zillizcloud.com` with a `ZILLIZ_TOKEN` is Zilliz Cloud. The embedding needs no model and
no network. Replace it by one of LangChain's, and pass the passages to a language model.
"""

from __future__ import annotations

import itertools
import math
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_milvus import Milvus

import zconfig

DOCS = Path(__file__).resolve().parents[1] / "docs"
DIMENSION = 2048
QUESTION = "How do I set the interval of the HTTP/2 pings?"


def main() -> None:
    """Store every passage of the documentation, and print those that answer the question."""
    question = " ".join(sys.argv[1:]) or QUESTION
    store = Milvus(
        HashingEmbeddings(),
        collection_name="zconfig_docs",
        connection_args=zconfig.connection_args(),
        index_params={"index_type": "FLAT", "metric_type": "COSINE"},
        consistency_level="Strong",
        auto_id=True,
        drop_old=True,
    )
    store.add_documents([each for page in sorted(DOCS.glob("*.md")) for each in passages(page)])
    print(question)
    for found in store.similarity_search(question, k=3):
        print(f"\n{found.page_content}\n  {found.metadata['page']}, {found.metadata['heading']!r}")


def passages(page: Path) -> Iterator[Document]:
    """Yield the paragraphs and table rows of a page, with their headings."""
    heading, text = "", page.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    for block in prose.split("\n\n"):
        if block.startswith("#"):
            heading = block.strip("# \n")
        elif block.startswith("| "):
            for row in block.splitlines()[2:]:  # after the header
                yield passage(row.strip("| "), page, heading)
        elif block.strip():
            yield passage(" ".join(block.split()), page, heading)


def passage(text: str, page: Path, heading: str) -> Document:
    """Return a passage with its page and its heading."""
    return Document(text, metadata={"page": page.name, "heading": heading})


class HashingEmbeddings(Embeddings):
    """Vectors of the words and letter triples of a text, hashed into `DIMENSION` places."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return a vector for each text."""
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a text: of length 1, and frequent parts weigh less."""
        words = re.findall(r"[a-z]{3,}", text.lower())
        triples = itertools.chain.from_iterable(
            (f" {word} "[i : i + 3] for i in range(len(word))) for word in words
        )
        counts = Counter(zlib.crc32(part.encode()) % DIMENSION for part in (*words, *triples))
        length = math.sqrt(counts.total()) or 1.0
        return [math.sqrt(counts[place]) / length for place in range(DIMENSION)]


if __name__ == "__main__":
    main()
