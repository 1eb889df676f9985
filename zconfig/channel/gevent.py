"""gevent, of which gRPC has to be told.

With gevent a thread of the standard library is a greenlet, and all share one thread. A call of
gRPC's own would stop it until the server answers; nothing else would run meanwhile.
"""

from __future__ import annotations

import sys

from zconfig.errors import ConfigurationError, Problem

_ITS_OWN = ("threading", "socket")


def refuse_gevent_alone() -> None:
    """Make sure that gRPC was told of gevent, if that has replaced the standard library.

    Raises:
        ConfigurationError: It was not.
    """
    if _is_patched() and not _is_told():
        problem = Problem(
            "gevent_without_grpc",
            "gevent has replaced the standard library, and gRPC does not know: a call would stop"
            " every greenlet",
            "call grpc.experimental.gevent.init_gevent() after gevent.monkey.patch_all()",
        )
        raise ConfigurationError([problem])


def _is_patched() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and any(map(monkey.is_module_patched, _ITS_OWN))


def _is_told() -> bool:
    """Tell whether gRPC was told; nothing public says so. Where we cannot see it, it counts."""
    from grpc._cython import cygrpc  # type: ignore[attr-defined] # not in the stubs

    told: bool = getattr(cygrpc, "g_gevent_activated", True)
    return told
