"""Benchmarks of zconfig against pymilvus, and against a floor: the minimum of the same work."""
