"""Read secret managers and plugins, each in a thread with a timeout."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, NamedTuple, Protocol

from zconfig._deadline import run_in_time
from zconfig._origin import Origin, printable
from zconfig._redaction import Hidden, Secret, redact_uri
from zconfig._sources.base import (
    Entry,
    SourceResult,
    guarded,
    is_key,
    is_text,
    joined,
    normalize_key,
    plain,
)
from zconfig._sources.environment import EnvironmentView
from zconfig._sources.files import located
from zconfig.errors import Problem, install_command

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

LIMIT_S = 30.0
"""Timeout of one source in seconds: the SDKs retry for minutes, or without end."""


def read_in_time(
    read: Callable[[], SourceResult], failed: Callable[[str], SourceResult]
) -> SourceResult:
    """Read a source with a timeout.

    After a timeout the thread continues until its source returns, or the process exits.

    Args:
        read: Reads the source; any exception is a failure.
        failed: Makes the result from the kind of the failure.
    """
    try:
        work = partial(guarded, read, failed, catch=BaseException)
        return run_in_time(work, LIMIT_S, "zconfig-source")
    except TimeoutError:
        return failed(f"no answer in {LIMIT_S:g} s")


_LINE_END = re.compile(r"\r?\n\Z")
_NOT_TEXT = Problem("not_text", "the value is not text", "store it as a string")


def read_mapping(
    variables: Mapping[str, object], *, source: str, path: str | None = None
) -> SourceResult:
    r"""Read the variables of zconfig from a mapping; other values are not fetched.

    One trailing line end is removed from a value, as from a file with a secret: a value that was
    piped into a secret manager often has one.

    Args:
        variables: Values by name; `-` and `.` in a name count as `_`.
        source: The kind of source, which is also the layer's name.
        path: The secret, vault or project that holds the variables; `None` if it has no name.

    Returns:
        Entries with keys in the form of variables. A value that cannot be read is one problem, and
        the others are read.

    Examples:
        >>> [entry] = read_mapping({"zilliz-uri": "./x.db\n", "HOME": "/"}, source="x").entries
        >>> entry.key, str(entry.value.reveal()), str(entry.origin)
        ('ZILLIZ_URI', './x.db', 'zilliz-uri (x)')
    """
    ours = {
        name: Origin(source, printable(name), path) for name in variables if is_key(plain(name))
    }
    return joined(
        source, [_read_variable(variables, name, origin) for name, origin in ours.items()]
    )


def _read_variable(variables: Mapping[str, object], name: str, origin: Origin) -> SourceResult:
    value = _value(variables, name)
    if isinstance(value, Problem):
        return SourceResult(origin.source, problems=located((value,), origin))
    return SourceResult(origin.source, (Entry(normalize_key(name), Secret(value), origin),))


def _value(variables: Mapping[str, object], name: str) -> Hidden | Problem:
    try:
        value = variables[name]
    except Exception as error:  # noqa: BLE001 - the SDK may raise any exception
        return _unreadable(type(error).__name__)
    if value is None:
        # pydantic-settings returns `None` for a secret that it was not allowed to read.
        return _unreadable("no value")
    if isinstance(value, str) and is_text(value):
        return Hidden(_LINE_END.sub("", value))
    return _NOT_TEXT


def _unreadable(cause: str) -> Problem:
    return Problem(
        "unreadable", f"the value cannot be read ({cause})", "enable it, or grant access to it"
    )


Variables = Mapping[str, str | None]


def _no_settings() -> type[BaseSettings]:
    """Return a settings class without fields: the sources need one, and list all names."""
    from pydantic_settings import BaseSettings

    class NoSettings(BaseSettings, case_sensitive=True):
        pass

    return NoSettings


@contextmanager
def _aws(secret: str) -> Iterator[Variables]:
    """Open one secret, by name or ARN, whose value is a JSON object of names and values."""
    from pydantic_settings import AWSSecretsManagerSettingsSource

    yield AWSSecretsManagerSettingsSource(_no_settings(), secret).env_vars


@contextmanager
def _azure(vault_url: str) -> Iterator[Variables]:
    """Open a vault; its names have only letters, digits and `-`."""
    from azure.identity import DefaultAzureCredential
    from pydantic_settings import AzureKeyVaultSettingsSource

    with DefaultAzureCredential() as credential:
        yield AzureKeyVaultSettingsSource(_no_settings(), vault_url, credential).env_vars


@contextmanager
def _google(project: str) -> Iterator[Variables]:
    """Open the latest versions of the secrets of a project, by its ID or number."""
    from google.cloud.secretmanager import SecretManagerServiceClient
    from pydantic_settings import GoogleSecretManagerSettingsSource

    # Not its gRPC transport: a channel that zconfig does not manage would not survive a fork.
    with SecretManagerServiceClient(transport="rest") as client:
        source = GoogleSecretManagerSettingsSource(
            _no_settings(), project_id=project, secret_client=client
        )
        # Since pydantic-settings 2.15, `env_vars` is empty before the first call.
        source()
        yield source.env_vars


class SecretManager(NamedTuple):
    """A secret manager.

    Args:
        name: Its name, which is also the layer's name.
        option: The variable that names the secret, vault or project to read.
        package: The required package, as a pip requirement.
        opened: Opens the secret, vault or project; values are fetched on access.
        remedies: The remedy for each kind of failure, as named by `guarded`.
        remedy: The remedy for any other failure.
    """

    name: str
    option: str
    package: str
    opened: Callable[[str], AbstractContextManager[Variables]]
    remedies: Mapping[str, str]
    remedy: str


_NAMES_AND_VALUES = "store names and values in the secret, e.g. ZILLIZ_URI and ZILLIZ_TOKEN"

SECRET_MANAGERS = (
    SecretManager(
        "AWS Secrets Manager",
        option="ZCONFIG_AWS_SECRET",
        package="pydantic-settings[aws-secrets-manager]>=2.10",
        opened=_aws,
        remedies={
            "AccessDeniedException": "grant secretsmanager:GetSecretValue on the secret",
            "AttributeError": _NAMES_AND_VALUES,
            "JSONDecodeError": _NAMES_AND_VALUES,
            "KeyError": _NAMES_AND_VALUES,
            "NoCredentialsError": "configure AWS credentials: a role, a profile or variables",
            "NoRegionError": "set AWS_DEFAULT_REGION",
            "ResourceNotFoundException": "correct the secret's name, or AWS_DEFAULT_REGION",
        },
        remedy="check that `aws secretsmanager get-secret-value` reads it from here",
    ),
    SecretManager(
        "Azure Key Vault",
        option="ZCONFIG_AZURE_VAULT",
        package="pydantic-settings[azure-key-vault]>=2.10",
        opened=_azure,
        remedies={
            "ClientAuthenticationError": "configure Azure credentials: an identity or variables",
            "HTTP 401": "configure Azure credentials of the vault's own tenant",
            "HTTP 403": "grant the role Key Vault Secrets User, or open the vault's firewall",
            "ServiceRequestError": "correct the vault's URL, or allow this host to reach it",
        },
        remedy="check that `az keyvault secret list` reads it from here",
    ),
    SecretManager(
        "Google Secret Manager",
        option="ZCONFIG_GOOGLE_PROJECT",
        package="pydantic-settings[gcp-secret-manager]>=2.10",
        opened=_google,
        remedies={
            "DefaultCredentialsError": "configure Google credentials: a service account or a file",
            "PermissionDenied": "grant the roles Secret Manager Viewer and Secret Accessor",
        },
        remedy="check that `gcloud secrets list` reads it from here",
    ),
)
"""The supported secret managers, highest precedence first."""


def manager_readings(
    subjects: Mapping[str, str], known: Sequence[SourceResult] = ()
) -> tuple[SourceResult, ...]:
    """Read the secret managers that are configured, over the network.

    Only names that begin with `zilliz` or `zconfig` are read, in any case; `-` and `.` count as
    `_`.

    Args:
        subjects: The secret, vault or project to read, by the variable that names it.
        known: Results to reuse: these sources are not read.

    Returns:
        One result per manager, highest precedence first. A manager that fails, or does not answer
        in time, is one problem, and the others are read.

    Examples:
        >>> manager_readings({})
        ()
    """
    by_name = {result.name: result for result in known}
    return tuple(
        by_name.get(each.name) or _read_manager(each, subjects[each.option])
        for each in SECRET_MANAGERS
        if each.option in subjects
    )


def _read_manager(manager: SecretManager, subject: str) -> SourceResult:
    shown = printable(redact_uri(subject) if "://" in subject else subject)

    origin = Origin(manager.name, manager.option, shown)

    def read() -> SourceResult:
        try:
            with manager.opened(subject) as variables:
                return read_mapping(variables, source=manager.name, path=shown)
        except ImportError:
            what = "needs packages that are not installed"
            remedy = f"run: {install_command(manager.package)}"
        problem = Problem("missing_extra", what, remedy, origin=origin)
        return SourceResult(manager.name, problems=(problem,))

    def failed(cause: str) -> SourceResult:
        remedy = manager.remedies.get(cause, manager.remedy)
        what = f"could not be read ({cause})"
        problem = Problem("manager_failed", what, remedy, origin=origin)
        return SourceResult(manager.name, problems=(problem,))

    return read_in_time(read, failed)


GROUP = "zconfig.sources"


class Source(Protocol):
    """A function that an installed package has as a source of configuration.

    The package declares it as an entry point of the group `zconfig.sources`; see the page on a
    source of your own.

    Examples:
        >>> from zconfig import Source
        >>> def read(environ):
        ...     return {"ZILLIZ_PROD_URI": environ["ACME_MILVUS"]}
        >>> source: Source = read  # a type checker compares the signatures
    """

    def __call__(self, environ: Mapping[str, str], /) -> Mapping[str, str]:
        """Return variables by name, e.g. `ZILLIZ_PROD_TOKEN`; other names are ignored.

        Args:
            environ: The environment, read-only.
        """


def has_plugins() -> bool:
    """Return whether any installed package provides a source; no source is loaded."""
    return bool(entry_points(group=GROUP))


def plugin_readings(
    environ: Mapping[str, str], known: Sequence[SourceResult] = ()
) -> tuple[SourceResult, ...]:
    """Call the sources that installed packages provide, in the order of their names.

    They run third-party code, which may use the network: call this when a configuration is
    first used, never on import.

    Args:
        environ: The environment, which the sources cannot change.
        known: Results to reuse: these sources are not read.

    Returns:
        One result per source. A source that fails, or does not answer in time, is one problem,
        and the others are read.
    """
    # Two packages may use the same name; the order must not depend on their installation.
    found = sorted(entry_points(group=GROUP), key=lambda each: (each.name, each.value))
    view = EnvironmentView(environ)
    left = list(known)

    def result(plugin: EntryPoint) -> SourceResult:
        for each in left:
            if each.name == _layer(plugin):
                left.remove(each)
                return each
        return read_in_time(partial(_result, plugin, view), partial(_failed, plugin))

    return tuple(map(result, found))


def _result(plugin: EntryPoint, environ: Mapping[str, str]) -> SourceResult:
    variables = plugin.load()(environ)
    if isinstance(variables, Mapping):
        return read_mapping(variables, source=_layer(plugin))
    return _failed(plugin, f"it returned {type(variables).__name__}, not a mapping")


def _layer(plugin: EntryPoint) -> str:
    return f"plugin {printable(plugin.name)}"


def _failed(plugin: EntryPoint, cause: str) -> SourceResult:
    layer = _layer(plugin)
    problem = Problem(
        "plugin_failed",
        f"could not be read ({cause})",
        f"fix or uninstall the package that provides {printable(plugin.value)}",
        origin=Origin(layer, GROUP),
    )
    return SourceResult(layer, problems=(problem,))
