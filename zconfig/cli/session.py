"""One run of the command: what its global options say, and the registry they lead to."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import click

from zconfig.log import configure_logging, log_as_configured
from zconfig.paths import working_directory
from zconfig.registry import Connections
from zconfig.settings.configuration import Configuration
from zconfig.settings.load import load
from zconfig.sources.process import process_environment

_LOADER_OPTIONS = ("env_file", "profile", "secrets_dir", "strict")


class Session:
    """What was chosen before and after the command's name, and what is made of it when asked for.

    Attributes:
        chosen: The global options that were given, by name.
    """

    def __init__(self) -> None:
        self.chosen: dict[str, Any] = {}

    @property
    def format(self) -> str | None:
        """The format that was asked for before the command's name."""
        return self.chosen.get("format")

    @property
    def is_quiet(self) -> bool:
        """Whether nothing but failures is printed."""
        return "quiet" in self.chosen

    @property
    def is_verbose(self) -> bool:
        """Whether the lifecycle events are shown."""
        return "verbose" in self.chosen

    @cached_property
    def connections(self) -> Connections:
        """The registry; it reads everything, and is closed when the command ends."""
        connections = Connections(self.configuration)
        if self.is_verbose:
            configure_logging("console", "debug")
        connections.subscribe(log_as_configured(lambda: connections.configuration.options))
        click.get_current_context().find_root().call_on_close(connections.close)
        return connections

    def configuration(self, *, remote: bool = True) -> Configuration:
        """Read the configuration.

        Args:
            remote: Whether to read also what may need the network.
        """
        given = {name: self.chosen[name] for name in _LOADER_OPTIONS if name in self.chosen}
        return load(process_environment(), working_directory(), given=given, remote=remote)


pass_session = click.make_pass_decorator(Session, ensure=True)
