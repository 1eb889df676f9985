"""Reading what may never answer: in a thread of its own, for a limited time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, NamedTuple

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
"""Seconds for one source: the SDKs behind it would go on for minutes, or have no end at all."""


def read_in_time(
    read: Callable[[], SourceResult], failed: Callable[[str], SourceResult]
) -> SourceResult:
    """Read a source, and give it up when it takes too long.

    A thread that was given up ends with its source, or with the process.

    Args:
        read: Reads the source; what it raises is a failure, whatever it is.
        failed: Makes the result of a failure, of its kind.
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
    r"""Read the variables that are zconfig's own; the values of others are not asked for.

    One trailing line end is not part of a value, as in a file that holds a secret: what was piped
    into a secret manager often has one.

    Args:
        variables: Values by name; `-` and `.` separate the parts of a name as `_` does.
        source: The kind of source, which names the layer too.
        path: What the variables stand in there; `None` if that has no name.

    Returns:
        Entries with keys in the form of variables. A value that cannot be had is one problem, and
        the others are read.

    Example:
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
    except Exception as error:  # noqa: BLE001 - the SDK behind it raises what it likes
        return _unreadable(type(error).__name__)
    if value is None:
        # How pydantic-settings hands on a secret that it was not allowed to read.
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
    """Return what the sources want to be made for: all names are asked for, whatever the fields."""
    from pydantic_settings import BaseSettings

    class NoSettings(BaseSettings, case_sensitive=True):
        pass

    return NoSettings


@contextmanager
def _aws(secret: str) -> Iterator[Variables]:
    """Open one secret, by name or ARN, that holds names and values as a JSON object."""
    from pydantic_settings import AWSSecretsManagerSettingsSource

    yield AWSSecretsManagerSettingsSource(_no_settings(), secret).env_vars


@contextmanager
def _azure(vault_url: str) -> Iterator[Variables]:
    """Open a vault, whose names have only letters, digits and `-`."""
    from azure.identity import DefaultAzureCredential
    from pydantic_settings import AzureKeyVaultSettingsSource

    with DefaultAzureCredential() as credential:
        yield AzureKeyVaultSettingsSource(_no_settings(), vault_url, credential).env_vars


@contextmanager
def _google(project: str) -> Iterator[Variables]:
    """Open the secrets of a project, by its id or number; the latest version of each counts."""
    from google.cloud.secretmanager import SecretManagerServiceClient
    from pydantic_settings import GoogleSecretManagerSettingsSource

    # Not its gRPC transport: a channel that zconfig does not know of would not survive a fork.
    with SecretManagerServiceClient(transport="rest") as client:
        source = GoogleSecretManagerSettingsSource(
            _no_settings(), project_id=project, secret_client=client
        )
        # Since pydantic-settings 2.15 there are no variables before the first call.
        source()
        yield source.env_vars


class SecretManager(NamedTuple):
    """A secret manager.

    Args:
        name: Its name, which is that of the layer.
        option: The variable that says what is to be read.
        package: What it needs, as pip takes it.
        opened: Opens what the option names; a value is fetched when it is asked for.
        remedies: Per cause of a failure, as `guarded` has it, the remedy.
        remedy: What to do about any other.
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
            "NoCredentialsError": "give the AWS SDK credentials: a role, a profile or variables",
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
            "ClientAuthenticationError": "give the Azure SDK credentials: an identity or variables",
            "HTTP 401": "give the Azure SDK credentials of the vault's own tenant",
            "HTTP 403": "grant the role Key Vault Secrets User, or open the vault's firewall",
            "ServiceRequestError": "correct the vault's URL, or let this host reach it",
        },
        remedy="check that `az keyvault secret list` reads it from here",
    ),
    SecretManager(
        "Google Secret Manager",
        option="ZCONFIG_GOOGLE_PROJECT",
        package="pydantic-settings[gcp-secret-manager]>=2.10",
        opened=_google,
        remedies={
            "DefaultCredentialsError": "give the Google SDK credentials: "
            "a service account or a file",
            "PermissionDenied": "grant the roles Secret Manager Viewer and Secret Accessor",
        },
        remedy="check that `gcloud secrets list` reads it from here",
    ),
)
"""Those that can be read, highest precedence first."""


def manager_readings(
    subjects: Mapping[str, str], known: Sequence[SourceResult] = ()
) -> tuple[SourceResult, ...]:
    """Read the secret managers that are configured, over the network.

    Of what a manager holds, names that begin with `zilliz` or `zconfig` are read, in any case of
    letters; `-` and `.` separate as `_` does.

    Args:
        subjects: What is to be read, by the variable that says so.
        known: Results that are used again: these sources are not read.

    Returns:
        One result per manager, highest precedence first. One that fails, or does not answer in
        time, is one problem, and the others are read.

    Example:
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

Source = Callable[[Mapping[str, str]], Mapping[str, str]]
"""The environment, read-only → variables by name, e.g. `ZILLIZ_PROD_TOKEN`."""


def has_plugins() -> bool:
    """Tell whether any installed package brings a source; none is loaded."""
    return bool(entry_points(group=GROUP))


def plugin_readings(
    environ: Mapping[str, str], known: Sequence[SourceResult] = ()
) -> tuple[SourceResult, ...]:
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
        known: Results that are used again: these sources are not read.

    Returns:
        One result per source. A source that fails, or does not answer in time, is one problem,
        and the others are read.
    """
    # Two packages may use one name; their order must not depend on which was installed first.
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
        f"mend or uninstall the package that has {printable(plugin.value)}",
        origin=Origin(layer, GROUP),
    )
    return SourceResult(layer, problems=(problem,))
