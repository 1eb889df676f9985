"""Sources of third parties, found by the entry points of installed packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from zconfig.errors import Problem
from zconfig.origin import Origin
from zconfig.sources.entry import Reading
from zconfig.sources.mapping import read_mapping
from zconfig.sources.names import printable

GROUP = "zconfig.sources"

Source = Callable[[Mapping[str, str]], Mapping[str, str]]
"""The environment, read-only → variables by name, e.g. `ZILLIZ_PROD_TOKEN`."""


def has_plugins() -> bool:
    """Tell whether any installed package brings a source; none is loaded."""
    return bool(entry_points(group=GROUP))


def plugin_readings(environ: Mapping[str, str]) -> tuple[Reading, ...]:
    """Call the sources that installed packages bring, in the order of their names.

    They run other people's code, which may use the network: call this when a configuration is
    first used, never on import. A package declares its source in its `pyproject.toml`:

        [project.entry-points."zconfig.sources"]
        vault = "acme_vault.zconfig:read"

    and `acme_vault/zconfig.py` has the function:

        def read(environ: Mapping[str, str]) -> Mapping[str, str]:
            secrets = fetch(environ["ACME_VAULT"])
            return {"ZILLIZ_PROD_URI": secrets["uri"], "ZILLIZ_PROD_TOKEN": secrets["token"]}

    Args:
        environ: The environment; a source can read it and not write to it.

    Returns:
        One reading per source. A source that fails is one problem, and the others are read.
    """
    # Two packages may use one name; their order must not depend on which was installed first.
    found = sorted(entry_points(group=GROUP), key=lambda each: (each.name, each.value))
    return tuple(_reading(each, MappingProxyType(environ)) for each in found)


def _reading(plugin: EntryPoint, environ: Mapping[str, str]) -> Reading:
    layer = f"plugin {printable(plugin.name)}"
    try:
        variables = plugin.load()(environ)
        if isinstance(variables, Mapping):
            return read_mapping(variables, source=layer)
        fault = f"it returned a value of type {type(variables).__name__}, not a mapping"
    except Exception as error:  # noqa: BLE001 - other people's code raises what it likes
        # Neither its text nor its traceback: they may quote a secret.
        fault = f"it failed ({type(error).__name__})"
    problem = Problem(
        "plugin_failed",
        fault,
        f"mend or uninstall the package that has {printable(plugin.value)}",
        origin=Origin(layer, GROUP),
    )
    return Reading(layer, problems=(problem,))
