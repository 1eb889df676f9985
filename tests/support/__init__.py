PATIENCE_S = 20.0
"""Longer than anything takes that is not stuck."""
