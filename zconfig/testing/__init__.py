"""A pytest plugin for applications that use zconfig: isolation, Milvus Lite and a fake server.

Load it in a `conftest.py` or with `-p zconfig.testing`:

    pytest_plugins = ["zconfig.testing"]

The fixtures are `zconfig_isolated`, `zconfig_env`, `zconfig_events`, `zconfig_lite`,
`zconfig_lite_session` and `zconfig_fake_server`; `isolated` and `fake_server` are context managers
for fixtures of your own.

pytest does not rewrite this module (PYTEST_DONT_REWRITE), so a `conftest.py` can import it first.
"""

from __future__ import annotations

from zconfig.testing.fake_server import Call, FakeServer, Fault, fake_server
from zconfig.testing.recorder import Recorder

try:
    from zconfig.testing.plugin import (
        Environment,
        isolated,
        zconfig_env,
        zconfig_events,
        zconfig_fake_server,
        zconfig_isolated,
        zconfig_lite,
        zconfig_lite_session,
    )
    from zconfig.testing.plugin import (
        pytest_assertrepr_compare as pytest_assertrepr_compare,  # called by pytest
    )
except ModuleNotFoundError as error:
    if error.name != "pytest":
        raise
    reason = "zconfig.testing needs pytest, which is not installed; run: pip install pytest"
    raise ModuleNotFoundError(reason, name="pytest") from error

__all__ = [
    "Call",
    "Environment",
    "FakeServer",
    "Fault",
    "Recorder",
    "fake_server",
    "isolated",
    "zconfig_env",
    "zconfig_events",
    "zconfig_fake_server",
    "zconfig_isolated",
    "zconfig_lite",
    "zconfig_lite_session",
]
