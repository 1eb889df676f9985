"""The configuration as a pydantic settings model."""

# Without `from __future__ import annotations`: pydantic would compile each text.

from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from zconfig._origin import working_directory
from zconfig._settings.fields import ConnectionSettings, HidesInput
from zconfig._settings.load import load
from zconfig._sources.environment import process_environment
from zconfig.errors import ConfigurationError


class _Configured(PydanticBaseSettingsSource):
    """Read every source of zconfig, and return the validated aliases."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return no value: `__call__` reads all fields together."""
        del field
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the settings of every alias.

        Raises:
            ConfigurationError: With every error that prevents a required alias from connecting.
        """
        if "connections" in self.current_state:  # set in code
            return {}
        configuration = load(process_environment(), working_directory())
        if errors := configuration.errors_required:
            raise ConfigurationError(errors)
        return {"connections": configuration.aliases}


class ZillizSettings(HidesInput, BaseSettings):
    """All configured connections, as a pydantic settings model.

    The constructor reads the environment, dotenv files, directories of secrets and secret managers,
    with the same precedence as `zconfig.connections`. Its `repr` and its JSON hide secrets.

    Attributes:
        connections: The settings by alias. If passed to the constructor, no source is read.

    Raises:
        ConfigurationError: With every error that prevents a required alias from connecting.

    Examples:
        >>> from zconfig import ZillizSettings
        >>> ZillizSettings().connections
        {}
    """

    model_config = SettingsConfigDict(extra="forbid")

    connections: dict[str, ConnectionSettings] = {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the sources of zconfig instead of those of pydantic-settings."""
        del env_settings, dotenv_settings, file_secret_settings
        return init_settings, _Configured(settings_cls)
