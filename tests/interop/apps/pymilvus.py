"""An application as people have them: a client of pymilvus."""

import os

from pymilvus import MilvusClient

from tests.interop.embedding import DIMENSION, QUESTION, TEXTS, embed

client = MilvusClient(uri=os.environ["VECTORS_URI"], token=os.environ["VECTORS_TOKEN"])
name = os.environ["COLLECTION"]
client.create_collection(name, dimension=DIMENSION, auto_id=True, consistency_level="Strong")
client.insert(name, [{"vector": embed(text), "text": text} for text in TEXTS])
(hits,) = client.search(name, data=[embed(QUESTION)], limit=2, output_fields=["text"])
print([hit["entity"]["text"] for hit in hits])
client.drop_collection(name)
