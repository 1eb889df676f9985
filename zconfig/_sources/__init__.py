"""Sources of settings: each returns names, texts and origins, and validates nothing."""
