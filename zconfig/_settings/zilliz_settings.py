"""The configuration as a settings model, for applications that keep theirs in one."""

# Not with annotations as text: pydantic would compile each again.

from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from zconfig._origin import working_directory
from zconfig._settings.fields import ConnectionSettings
from zconfig._settings.load import load
from zconfig._sources.environment import process_environment
from zconfig.errors import ConfigurationError


class _Configured(PydanticBaseSettingsSource):
    """Reads every source of zconfig; each alias comes validated."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return nothing: all fields are read together, by calling it."""
        del field
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the settings of every alias.

        Raises:
            ConfigurationError: With every error that keeps a required alias from connecting.
        """
        if "connections" in self.current_state:  # given in code
            return {}
        configuration = load(process_environment(), working_directory())
        if errors := configuration.errors_required:
            raise ConfigurationError(errors)
        return {"connections": configuration.aliases}


class ZillizSettings(BaseSettings):
    """Every connection that is configured, as a settings model.

    Making it reads the environment, dotenv files, directories of secrets and secret managers, in
    the order in which `zconfig.connections` does. Its `repr` and its JSON hide secrets.

    Attributes:
        connections: By alias its settings, in place of those that are read.

    Raises:
        ConfigurationError: With every error that keeps a required alias from connecting.

    Example:
        >>> from zconfig import ZillizSettings
        >>> ZillizSettings().connections
        {}
    """

    model_config = SettingsConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

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
        """Read zconfig's sources in place of pydantic-settings' own."""
        del env_settings, dotenv_settings, file_secret_settings
        return init_settings, _Configured(settings_cls)
