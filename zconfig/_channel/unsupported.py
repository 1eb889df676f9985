"""Where gRPC would hang: refused before anything is dialed."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

from zconfig.errors import ConfigurationError, Problem

_ITS_OWN = ("threading", "socket")
_INTERPRETERS = ("_interpreters", "_xxsubinterpreters")  # as of Python 3.13, and before

# With gevent a thread of the standard library is a greenlet, and all share one thread. A call of
# gRPC's own would stop it until the server answers; nothing else would run meanwhile.
_GEVENT = Problem(
    "gevent_without_grpc",
    "gevent has replaced the standard library, and gRPC does not know: a call would stop every"
    " greenlet",
    "call grpc.experimental.gevent.init_gevent() after gevent.monkey.patch_all()",
)
_SUB_INTERPRETER = Problem(
    "sub_interpreter",
    "this is a sub-interpreter of Python, in which gRPC hangs",
    "run the application in the main interpreter: under mod_wsgi set WSGIApplicationGroup"
    " %{GLOBAL}",
)


def refuse_where_grpc_hangs() -> None:
    """Make sure that gRPC works here.

    Raises:
        ConfigurationError: gevent has replaced the standard library, and gRPC was not told of it;
            or this is a sub-interpreter.
    """
    if _is_sub_interpreter():
        raise ConfigurationError([_SUB_INTERPRETER])
    if _is_patched() and not _is_told():
        raise ConfigurationError([_GEVENT])


def _is_sub_interpreter() -> bool:
    """Tell whether this is not the main interpreter; nothing public says so."""
    for name in _INTERPRETERS:
        with suppress(ImportError):
            interpreters: Any = import_module(name)
            return bool(interpreters.get_current() != interpreters.get_main())
    return False


def _is_patched() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and any(map(monkey.is_module_patched, _ITS_OWN))


def _is_told() -> bool:
    """Tell whether gRPC was told; nothing public says so. Where we cannot see it, it counts."""
    from grpc._cython import cygrpc  # type: ignore[attr-defined] # not in the stubs

    told: bool = getattr(cygrpc, "g_gevent_activated", True)
    return told
