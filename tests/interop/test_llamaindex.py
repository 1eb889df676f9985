"""LlamaIndex' vector store from `zconfig.connection_args()`, as keywords."""

from __future__ import annotations

from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery
from llama_index.vector_stores.milvus import MilvusVectorStore

import zconfig
from tests.interop.embedding import ANSWER, DIMENSION, QUESTION, TEXTS, embed
from tests.interop.moving import both_answer


def test_a_store_is_filled_and_searched(docs: str, name: str) -> None:
    store = MilvusVectorStore(
        **zconfig.connection_args(docs),
        collection_name=name,
        dim=DIMENSION,
        consistency_level="Strong",
        use_async_client=False,
    )
    store.add([TextNode(text=text, embedding=embed(text)) for text in TEXTS])
    found = store.query(VectorStoreQuery(query_embedding=embed(QUESTION), similarity_top_k=1))
    assert [node.get_content() for node in found.nodes or ()] == [ANSWER]
    store.client.drop_collection(name)


def test_a_store_shows_no_token(docs: str, name: str) -> None:
    store = MilvusVectorStore(
        **zconfig.connection_args(docs), collection_name=name, dim=4, use_async_client=False
    )
    assert "root:Milvus" not in f"{store!r} {store.to_dict()}"


def test_an_application_moves_over_by_configuration_and_one_import(
    place: tuple[str, str], name: str
) -> None:
    before, after = both_answer("LlamaIndex", *place, name)
    assert before == after
    assert ANSWER in after
