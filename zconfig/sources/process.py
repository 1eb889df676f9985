"""The one place where the environment of this process is taken from `os`."""

from __future__ import annotations

import os
from collections.abc import Mapping


def process_environment() -> Mapping[str, str]:
    """Return the environment of this process, live; nobody writes to it."""
    return os.environ
