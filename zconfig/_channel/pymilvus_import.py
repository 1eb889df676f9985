"""Import pymilvus without its side effects.

An import of pymilvus changes the process (as of 2.4.0, 2.4.15, 2.5.0, 2.5.18, 2.6.0, 2.6.17,
3.0.0 and 3.0.2, in `pymilvus/settings.py` and the modules that it imports):

- `load_dotenv()` searches for a `.env` from site-packages upward and writes `os.environ`
  (milvus-io/pymilvus#3666);
- `logging.config.dictConfig` closes all handlers of the application, adds handlers on standard
  error to pymilvus' loggers, and turns off their propagation;
- some modules set the level of their logger to DEBUG;
- with a path or a bare address in `MILVUS_URI`, it raises (zilliztech/milvus-lite#219). 2.4.0
  still does: it reads the environment with environs, which is not replaced here.

A closed handler cannot be reopened, and restoring `os.environ` would undo the changes of other
threads. So these functions are replaced during the import, for the importing thread only.
"""

from __future__ import annotations

import functools
import os
import threading
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from zconfig._channel.fork_gate import GATE
from zconfig._sources.environment import process_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def import_without_side_effects() -> Iterator[None]:
    """Keep an import of pymilvus or milvus_lite from changing environment and logging.

    An import that fails raises its own error. The loggers of pymilvus stay unconfigured, so that
    their records reach the application's handlers.

    Examples:
        >>> with import_without_side_effects():
        ...     import pymilvus  # doctest: +SKIP
    """
    import logging.config

    import dotenv.main

    with GATE.importing, ExitStack() as shields:
        for owner, name, quiet in (
            (dotenv.main.DotEnv, "set_as_environment_variables", _nothing),
            (logging.config, "dictConfig", _nothing),
            (logging.Logger, "setLevel", _nothing),
            (os, "getenv", _getenv),
        ):
            shields.enter_context(_replaced(owner, name, quiet))
        yield


@contextmanager
def _replaced(owner: Any, name: str, quiet: Callable[..., Any]) -> Iterator[None]:
    original = getattr(owner, name)
    shielded = {threading.get_ident()}

    @functools.wraps(original)
    def replacement(*args: Any, **kwargs: Any) -> Any:
        function = quiet if threading.get_ident() in shielded else original
        return function(*args, **kwargs)

    setattr(owner, name, replacement)
    try:
        yield
    finally:
        setattr(owner, name, original)
        # A module may keep the replacement by `from ... import`: it calls the original from now on.
        shielded.clear()


def _nothing(*_args: Any, **_kwargs: Any) -> bool:
    return False


def _getenv(key: str, default: Any = None) -> Any:
    value = process_environment().get(key)
    left_out = key in {"MILVUS_URI", "MILVUS_DEFAULT_CONNECTION"} and not _has_host(value or "")
    return default if value is None or left_out else str(value)


def _has_host(uri: str) -> bool:
    with suppress(ValueError):
        return bool(urlsplit(uri).netloc)
    return False
