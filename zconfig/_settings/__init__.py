"""The room of settings: what the sources say → validated, with precedence and provenance."""
