"""Validated settings with precedence and provenance, built from the entries of all sources."""
