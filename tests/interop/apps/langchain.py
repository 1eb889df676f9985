"""An application as people have them: LangChain, with a store on Milvus."""

import os

from langchain_core.embeddings import Embeddings
from langchain_milvus import Milvus

from tests.interop.embedding import QUESTION, TEXTS, embed


class Hashing(Embeddings):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [embed(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return embed(text)


store = Milvus(
    Hashing(),
    connection_args={"uri": os.environ["VECTORS_URI"], "token": os.environ["VECTORS_TOKEN"]},
    collection_name=os.environ["COLLECTION"],
    consistency_level="Strong",
    auto_id=True,
)
store.add_texts(list(TEXTS))
print([document.page_content for document in store.similarity_search(QUESTION, k=2)])
store.client.drop_collection(os.environ["COLLECTION"])
