"""An application as people have them: LlamaIndex, with a store on Milvus."""

import os

from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery
from llama_index.vector_stores.milvus import MilvusVectorStore

from tests.interop.embedding import DIMENSION, QUESTION, TEXTS, embed

store = MilvusVectorStore(
    uri=os.environ["VECTORS_URI"],
    token=os.environ["VECTORS_TOKEN"],
    collection_name=os.environ["COLLECTION"],
    dim=DIMENSION,
    consistency_level="Strong",
    use_async_client=False,
)
store.add([TextNode(text=text, embedding=embed(text)) for text in TEXTS])
found = store.query(VectorStoreQuery(query_embedding=embed(QUESTION), similarity_top_k=2))
print([node.get_content() for node in found.nodes or ()])
store.client.drop_collection(os.environ["COLLECTION"])
