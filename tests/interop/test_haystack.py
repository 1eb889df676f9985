"""Haystack's document store from `zconfig.connection_args()`."""

from __future__ import annotations

from haystack import Document
from milvus_haystack import MilvusDocumentStore, MilvusEmbeddingRetriever

import zconfig
from tests.interop.embedding import ANSWER, QUESTION, TEXTS, embed
from tests.interop.moving import both_answer


def test_a_store_is_filled_and_searched(docs: str, name: str) -> None:
    store = MilvusDocumentStore(
        collection_name=name,
        connection_args=zconfig.connection_args(docs),
        consistency_level="Strong",
    )
    store.write_documents([Document(content=text, embedding=embed(text)) for text in TEXTS])
    retriever = MilvusEmbeddingRetriever(store, top_k=1)
    found = retriever.run(query_embedding=embed(QUESTION))["documents"]
    assert [document.content for document in found] == [ANSWER]
    store.client.drop_collection(name)


def test_a_store_as_a_dictionary_shows_no_token(docs: str, name: str) -> None:
    store = MilvusDocumentStore(collection_name=name, connection_args=zconfig.connection_args(docs))
    assert "root:Milvus" not in str(store.to_dict())


def test_an_application_moves_over_by_configuration_and_one_import(
    place: tuple[str, str], name: str
) -> None:
    before, after = both_answer("Haystack", *place, name)
    assert before == after
    assert ANSWER in after
