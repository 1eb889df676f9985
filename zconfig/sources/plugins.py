"""Sources of third parties, found by the entry points of installed packages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import EntryPoint, entry_points

from zconfig.errors import Problem
from zconfig.origin import Origin, printable
from zconfig.sources.entry import Reading
from zconfig.sources.process import EnvironmentView

GROUP = "zconfig.sources"

Source = Callable[[Mapping[str, str]], Mapping[str, str]]
"""The environment, read-only → variables by name, e.g. `ZILLIZ_PROD_TOKEN`."""


def has_plugins() -> bool:
    """Tell whether any installed package brings a source; none is loaded."""
    return bool(entry_points(group=GROUP))


def plugin_readings(
    environ: Mapping[str, str], known: Sequence[Reading] = ()
) -> tuple[Reading, ...]:
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
        known: What takes the place of a reading of the same name, which is not made.

    Returns:
        One reading per source. A source that fails, or does not answer in time, is one problem,
        and the others are read.
    """
    from zconfig.sources.bounded import read_in_time

    # Two packages may use one name; their order must not depend on which was installed first.
    found = sorted(entry_points(group=GROUP), key=lambda each: (each.name, each.value))
    view = EnvironmentView(environ)
    left = list(known)

    def reading(plugin: EntryPoint) -> Reading:
        for each in left:
            if each.name == _layer(plugin):
                left.remove(each)
                return each
        return read_in_time(partial(_reading, plugin, view), partial(_failed, plugin))

    return tuple(map(reading, found))


def _reading(plugin: EntryPoint, environ: Mapping[str, str]) -> Reading:
    from zconfig.sources.mapping import read_mapping

    variables = plugin.load()(environ)
    if isinstance(variables, Mapping):
        return read_mapping(variables, source=_layer(plugin))
    return _failed(plugin, f"it returned {type(variables).__name__}, not a mapping")


def _layer(plugin: EntryPoint) -> str:
    return f"plugin {printable(plugin.name)}"


def _failed(plugin: EntryPoint, cause: str) -> Reading:
    layer = _layer(plugin)
    problem = Problem(
        "plugin_failed",
        f"could not be read ({cause})",
        f"mend or uninstall the package that has {printable(plugin.value)}",
        origin=Origin(layer, GROUP),
    )
    return Reading(layer, problems=(problem,))
