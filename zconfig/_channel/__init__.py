"""Channels: a specification → gRPC channels, views of them, and Milvus messages."""
