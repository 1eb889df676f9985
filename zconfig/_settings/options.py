"""The loader's own options, `ZCONFIG_*`, whose prefix cannot collide with an alias."""

# Without `from __future__ import annotations`: pydantic would compile each text on import.

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from zconfig._origin import Origin
from zconfig._settings.fields import LONGEST_S, Variable, reject
from zconfig._settings.names import behind_misspelt, check_alias, nearest, normalize_alias
from zconfig._settings.validation import problem_of
from zconfig._sources.base import Entry, not_read, oddities, plain
from zconfig.errors import Problem

PREFIX = "ZCONFIG_"
_NAMESPACE = "zconfig"

OFF = "off"
"""The value in place of a path that excludes the default locations."""

SECRET_MANAGERS = ("aws_secret", "azure_vault", "google_project")
"""The options that name the secret, vault or project to read."""

# A dotenv file cannot select the dotenv files to read.
ENVIRONMENT_ONLY = frozenset({"env_file", "profile"})


def _paths(value: Any) -> Any:
    """Split a path list in the format of the operating system."""
    if isinstance(value, str):
        return tuple(part for part in value.split(os.pathsep) if part)
    return value


def _alias(value: str) -> str:
    complaint = check_alias(normalize_alias(value))
    if complaint:
        raise reject(complaint.code, complaint.message, "write an alias as in ZILLIZ_<ALIAS>_URI")
    return normalize_alias(value)


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


PathList = Annotated[tuple[str, ...], BeforeValidator(_paths)]


class LoaderOptions(BaseModel):
    """Options for reading and reporting the configuration, not its content."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True
    )

    env_file: Annotated[
        PathList | None,
        Variable(
            meaning="dotenv files to read instead of the default ones, highest precedence first, "
            "or `off`; only in the environment",
            expected="a list of paths, or off",
            example=".env",
        ),
    ] = None
    profile: Annotated[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] | None,
        Variable(
            meaning="profile whose files `.env.<profile>.local` and `.env.<profile>` are read, "
            "too; not with ZCONFIG_ENV_FILE; only in the environment",
            expected="a name of letters, digits, - and _",
            example="production",
        ),
    ] = None
    secrets_dir: Annotated[
        PathList,
        Variable(
            meaning="directories of secret files, highest precedence first, above /run/secrets; "
            "`off` among them excludes /run/secrets",
            expected="a list of directories",
            example="/etc/secrets",
        ),
    ] = ()
    aws_secret: Annotated[
        str | None,
        Variable(
            meaning="secret of AWS Secrets Manager that contains variables; needs the extra `aws`",
            expected="a name or an ARN",
            example="prod/zilliz",
        ),
    ] = None
    azure_vault: Annotated[
        str | None,
        Variable(
            meaning="Azure Key Vault whose secrets are variables; needs the extra `azure`",
            expected="a vault's URL",
            example="https://my-vault.vault.azure.net/",
        ),
    ] = None
    google_project: Annotated[
        str | None,
        Variable(
            meaning="Google Cloud project whose secrets are variables; needs the extra `google`",
            expected="a project ID",
            example="my-project",
        ),
    ] = None
    default_alias: Annotated[
        Annotated[str, AfterValidator(_alias)] | None,
        Variable(
            meaning="alias to use if none is named",
            expected="an alias",
            example="prod",
        ),
    ] = None
    strict: Annotated[
        bool,
        Variable(
            meaning="whether ZILLIZ_* names that resemble known ones, and unknown ZCONFIG_* ones, "
            "are errors",
            expected="true or false",
            example="true",
        ),
    ] = False
    wait: Annotated[
        Annotated[float, Field(ge=0, le=LONGEST_S, allow_inf_nan=False)],
        Variable(
            meaning="seconds to retry transient failures while connecting",
            expected=f"a number of seconds from 0 to {LONGEST_S}",
            example="60",
        ),
    ] = 0.0
    log_format: Annotated[
        Annotated[Literal["json", "console", "none"], BeforeValidator(_lower)] | None,
        Variable(
            meaning="format of a log on standard error, unless the application configures its own",
            expected="json, console or none",
            example="json",
        ),
    ] = None
    log_level: Annotated[
        Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)],
        Variable(
            meaning="lowest level of this log",
            expected="debug, info, warning or error",
            example="info",
        ),
    ] = "info"

    @property
    def secret_managers(self) -> dict[str, str]:
        """The secrets, vaults and projects to read, by the variable that names them."""
        subjects = {f"{PREFIX}{name.upper()}": getattr(self, name) for name in SECRET_MANAGERS}
        return {variable: subject for variable, subject in subjects.items() if subject}

    @property
    def dotenv_is_off(self) -> bool:
        """Whether no dotenv file is read."""
        return self.env_file is not None and [path.lower() for path in self.env_file] == [OFF]

    @property
    def dotenv_files(self) -> tuple[str, ...]:
        """The dotenv files that are looked for, highest precedence first."""
        if self.dotenv_is_off or self.env_file is not None:
            return () if self.dotenv_is_off else self.env_file or ()
        if not self.profile:
            return (".env.local", ".env")
        return (f".env.{self.profile}.local", ".env.local", f".env.{self.profile}", ".env")

    @property
    def secrets_dirs(self) -> tuple[str, ...]:
        """The directories of secrets that the option names."""
        return tuple(path for path in self.secrets_dir if path.lower() != OFF)

    @property
    def system_secrets_are_off(self) -> bool:
        """Whether /run/secrets is not read."""
        return len(self.secrets_dirs) < len(self.secrets_dir)


class OptionsRead(NamedTuple):
    """The loader's options with their origins and problems.

    Args:
        options: The options, with defaults in place of invalid values.
        origins: The origin of each option that is set.
        problems: The problems of the options.
    """

    options: LoaderOptions
    origins: Mapping[str, Origin]
    problems: tuple[Problem, ...]


def read_options(entries: Iterable[Entry], given: Mapping[str, Any]) -> OptionsRead:
    """Validate the loader's options.

    Args:
        entries: `ZCONFIG_*` entries, highest precedence first; others are skipped.
        given: Options of the command line; they take precedence over all entries.
    """
    values: dict[str, Any] = dict(given)
    origins = {each: Origin("command line", f"--{each.replace('_', '-')}") for each in given}
    complaints: list[Problem] = []
    for option, entry in _options_in(entries):
        if option not in LoaderOptions.model_fields:
            complaints.append(_unknown(entry))
        elif option in ENVIRONMENT_ONLY and entry.origin.source != "environment":
            complaints.append(_too_late(entry.origin, "set it in the environment"))
        elif option not in values:
            values[option] = str(entry.value.reveal())
            origins[option] = entry.origin
    options, invalid = _validated(values, origins)
    strictly = (_strictly(each) if options.strict else each for each in complaints)
    return OptionsRead(options, origins, (*strictly, *invalid, *_unused(options, origins)))


def _unused(options: LoaderOptions, origins: Mapping[str, Origin]) -> Iterator[Problem]:
    """Warn of a profile whose files are not read, since others are named instead."""
    if options.profile and options.env_file is not None:
        profile, files = origins["profile"], origins["env_file"]
        message = f"is not used: {files} replaces the files of the profile"
        remedy = f"name .env.{options.profile} in {files.key}, or remove {profile.key}"
        yield Problem("unused_profile", message, remedy, origin=profile, severity="warning")


def option_meant(key: str) -> str | None:
    """Return the option that a name with a misspelt prefix means, or `None`.

    Examples:
        >>> option_meant("ZCONFG_STRICT"), option_meant("CONFIG_HOME")
        ('ZCONFIG_STRICT', None)
    """
    option = behind_misspelt(_NAMESPACE, key)
    return f"{PREFIX}{option.upper()}" if option in LoaderOptions.model_fields else None


def options_too_late(entries: Iterable[Entry]) -> tuple[Problem, ...]:
    """Report options in the sources that are read last: secret managers and plugins."""
    remedy = "set it in the environment, or in a .env file"
    return tuple(_too_late(entry.origin, remedy) for _, entry in _options_in(entries))


def _options_in(entries: Iterable[Entry]) -> Iterator[tuple[str, Entry]]:
    for entry in entries:
        name = plain(entry.key)
        if name[: len(_NAMESPACE)].lower() == _NAMESPACE and entry.value:
            is_odd = oddities(entry.key)
            yield entry.key if is_odd else normalize_alias(name)[len(PREFIX) :], entry


def _unknown(entry: Entry) -> Problem:
    name = normalize_alias(plain(entry.key))[len(PREFIX) :]
    meant = nearest(name, LoaderOptions.model_fields)
    known = ", ".join(f"{PREFIX}{name.upper()}" for name in LoaderOptions.model_fields)
    remedy = f"did you mean {PREFIX}{meant.upper()}?" if meant else f"use one of {known}"
    message = not_read(entry.key) if oddities(entry.key) else "is not a known option"
    return Problem("unknown_option", message, remedy, origin=entry.origin, severity="warning")


def _too_late(origin: Origin, remedy: str) -> Problem:
    message = "has no effect here: it is needed before this source is read"
    return Problem("option_too_late", message, remedy, origin=origin, severity="warning")


def _strictly(complaint: Problem) -> Problem:
    unknown = complaint.code == "unknown_option"
    return replace(complaint, severity="error") if unknown else complaint


def _validated(
    values: dict[str, Any], origins: Mapping[str, Origin]
) -> tuple[LoaderOptions, list[Problem]]:
    """Validate the options, replacing each invalid one with its default."""
    if not values:  # the usual case, in which the defaults need no validation
        return LoaderOptions.model_construct(), []
    try:
        return LoaderOptions(**values), []
    except ValidationError as error:
        details = error.errors(include_input=False, include_url=False)
    problems = []
    for detail in details:
        option = str(detail["loc"][0])
        variable = Variable.of(LoaderOptions, option)
        value = values.pop(option, None)
        problems.append(problem_of(detail, variable, origin=origins.get(option), value=value))
    return LoaderOptions(**values), problems
