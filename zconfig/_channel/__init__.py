"""The room of channels: a specification → gRPC channels, views of them, Milvus' messages."""
