"""LangChain's vector store from `zconfig.connection_args()`."""

from __future__ import annotations

import sys
from pathlib import Path

from langchain_core.embeddings import Embeddings
from langchain_milvus import Milvus

import zconfig
from tests.interop.embedding import ANSWER, QUESTION, TEXTS, embed
from tests.interop.moving import both_answer
from tests.support.pages import TopologyCache, follow
from tests.support.processes import REPOSITORY, run
from tests.support.servers import CREDENTIALS, RealMilvus

PAGE = REPOSITORY / "docs" / "how-to" / "langchain.md"
EXAMPLE = REPOSITORY / "examples" / "langchain_rag.py"


class Hashing(Embeddings):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [embed(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return embed(text)


def test_a_store_is_filled_and_searched(docs: str, name: str) -> None:
    store = Milvus(
        Hashing(),
        collection_name=name,
        connection_args=zconfig.connection_args(docs),
        consistency_level="Strong",
        auto_id=True,
    )
    store.add_texts(list(TEXTS))
    assert [hit.page_content for hit in store.similarity_search(QUESTION, k=1)] == [ANSWER]
    store.client.drop_collection(name)


def test_the_page_can_be_followed_from_its_top(tmp_path: Path) -> None:
    with TopologyCache(tmp_path, {}) as follower:
        follow(PAGE, follower, run={"python"}, not_run={"pip"})


def test_the_example_answers_from_the_docs_on_milvus_lite(tmp_path: Path) -> None:
    done = run([sys.executable, str(EXAMPLE)], environ={"ZILLIZ_URI": "./docs.db"})
    assert done.returncode == 0, done.stderr
    assert "KEEPALIVE" in done.stdout
    assert (tmp_path / "docs.db").exists()


def test_the_example_takes_another_question_and_a_server(milvus: RealMilvus) -> None:
    done = run(
        [sys.executable, str(EXAMPLE), "What if a closing brace is missing?"],
        environ={"ZILLIZ_URI": milvus.uri, "ZILLIZ_TOKEN": CREDENTIALS},
    )
    assert done.returncode == 0, done.stderr
    assert "bad_expansion" in done.stdout


def test_an_application_moves_over_by_configuration_and_one_import(
    place: tuple[str, str], name: str
) -> None:
    before, after = both_answer("LangChain", *place, name)
    assert before == after
    assert ANSWER in after
