"""The configuration as a value: what was read, where it stood, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from zconfig.errors import Problem
from zconfig.origin import Origin, printable
from zconfig.redaction import Secret
from zconfig.settings.fields import ConnectionSettings
from zconfig.settings.grouping import Declared
from zconfig.settings.names import DEFAULT_ALIAS, variable_name
from zconfig.settings.options import LoaderOptions
from zconfig.settings.precedence import Slot
from zconfig.sources.entry import FileSeen, Reading


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is not wrong, but that a reader of the configuration may wonder about.

    Args:
        origin: What it is about.
        message: What was made of it.
        slot: The alias and field that it concerns, if it is one.
    """

    origin: Origin
    message: str
    slot: Slot | None = None


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything that was read: an immutable value.

    Args:
        aliases: The settings of the aliases that can be connected.
        problems: Everything that is wrong, of all aliases and layers.
        provenance: Where each value came from, by alias and field.
        files: The files that were looked for, highest precedence first.
        notes: What was passed over, and why.
        options: The loader's own options.
        optional: The aliases that are declared not to be required, right or wrong.
        secrets: Every secret that was read, also of aliases that are wrong, and where it does not
            count.
        passed_over: What is set for fields whose value is wrong where it ranks higher.
        elapsed_ms: How long reading took.
        directory: Where relative paths in it start.
        unread: Variables that say where a server is, and that are not read.
        remote: What was read from each source that may use the network.
    """

    aliases: Mapping[str, ConnectionSettings] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    provenance: Mapping[Slot, Declared] = field(default_factory=dict)
    files: tuple[FileSeen, ...] = ()
    notes: tuple[Note, ...] = ()
    options: LoaderOptions = field(default_factory=LoaderOptions)
    optional: frozenset[str] = frozenset()
    secrets: tuple[Secret, ...] = ()
    passed_over: Mapping[Slot, Sequence[Declared]] = field(default_factory=dict)
    elapsed_ms: float = 0.0
    directory: Path = Path()
    unread: tuple[Origin, ...] = ()
    remote: tuple[Reading, ...] = field(default=(), repr=False)

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that keep an alias from connecting."""
        return tuple(each for each in self.problems if each.severity == "error")

    @property
    def errors_required(self) -> tuple[Problem, ...]:
        """The errors that concern a required alias, or no alias in particular."""
        return tuple(each for each in self.errors if each.alias not in self.optional)

    def errors_of(self, alias: str) -> tuple[Problem, ...]:
        """The errors of one alias."""
        return tuple(each for each in self.errors if each.alias == alias)

    def why_not(self, alias: str) -> tuple[Problem, ...]:
        """Why an alias that is asked for cannot be connected: its errors, or else its warnings."""
        if alias in self.aliases:
            return self.errors_of(alias)
        warnings = (each for each in self.problems if each.alias == alias)
        return self.errors_of(alias) or tuple(replace(e, severity="error") for e in warnings)


def nothing_configured(configuration: Configuration, alias: str = DEFAULT_ALIAS) -> Problem:
    """Return the problem of an empty configuration.

    Args:
        configuration: What was read.
        alias: The alias that was asked for.
    """
    variable = variable_name(alias, "uri")
    return Problem(
        "nothing_configured",
        "no connection is configured",
        f"set {variable} {_where_to_set(configuration)}{_unread(configuration, variable)}",
    )


def _unread(configuration: Configuration, variable: str) -> str:
    """Return the URI that variables amount to which are there, and not read."""
    keys = [origin.key for origin in configuration.unread]
    last = {key.lower().rpartition("_")[2]: f"${{{key}}}" for key in keys}
    uri = last.get("url") or last.get("endpoint")
    if "host" in last:
        uri = f"http://{last['host']}:{last.get('port', 19530)}"
    elif "address" in last:
        uri = f"http://{last['address']}"
    are = "is" if len(keys) == 1 else "are"
    return f" ({' and '.join(keys)} {are} not read: write {variable}={uri})" if uri else ""


def _where_to_set(configuration: Configuration) -> str:
    options, directory = configuration.options, configuration.directory
    if options.dotenv_is_off:
        return "in the environment"
    place = f"a .env file in {directory}" if directory.is_absolute() else "a .env file"
    return printable(f"in the environment or in {' or '.join(options.env_file or (place,))}")
