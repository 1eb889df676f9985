"""Where settings are read from: each source hands on text and where it stood, nothing more."""
