"""An application as people have them: Haystack, with a store on Milvus."""

import os

from haystack import Document
from haystack.utils import Secret
from milvus_haystack import MilvusDocumentStore, MilvusEmbeddingRetriever

from tests.interop.embedding import QUESTION, TEXTS, embed

store = MilvusDocumentStore(
    connection_args={
        "uri": os.environ["VECTORS_URI"],
        "token": Secret.from_env_var("VECTORS_TOKEN"),
    },
    collection_name=os.environ["COLLECTION"],
    consistency_level="Strong",
)
store.write_documents([Document(content=text, embedding=embed(text)) for text in TEXTS])
retriever = MilvusEmbeddingRetriever(store, top_k=2)
print([each.content for each in retriever.run(query_embedding=embed(QUESTION))["documents"]])
store.client.drop_collection(os.environ["COLLECTION"])
