"""Secret managers, read through the sources that pydantic-settings has for them.

Each needs an extra of zconfig, whose packages are imported only when its manager is read. Reading
uses the network, and is given up when it takes too long: it belongs to the first use of a
configuration, never to an import. Credentials are those that the SDK finds by itself.

What an SDK logs is its own: `botocore` writes the bodies of responses, and so the secrets, to its
log at level DEBUG. Leave that logger at INFO or above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

from pydantic_settings import BaseSettings, SettingsConfigDict

from zconfig.errors import Problem, install_command
from zconfig.origin import Origin, printable
from zconfig.redaction import redact_uri
from zconfig.sources.bounded import read_in_time
from zconfig.sources.entry import Reading
from zconfig.sources.mapping import read_mapping

Variables = Mapping[str, str | None]


class _NoSettings(BaseSettings):
    """What the sources want to be made for: they are asked for all names, whatever the fields."""

    model_config = SettingsConfigDict(case_sensitive=True)


@dataclass(frozen=True, slots=True)
class _Manager:
    """A secret manager.

    Args:
        name: Its name, which is that of the layer.
        option: The loader option that says what is to be read.
        extra: The extra of zconfig that it needs.
        opened: Opens what the option names; a value is fetched when it is asked for.
        remedies: Per cause of a failure, as `guarded` has it, the remedy.
        remedy: What to do about any other.
    """

    name: str
    option: str
    extra: str
    opened: Callable[[str], AbstractContextManager[Variables]]
    remedies: Mapping[str, str]
    remedy: str


@contextmanager
def _aws(secret: str) -> Iterator[Variables]:
    from pydantic_settings import AWSSecretsManagerSettingsSource

    yield AWSSecretsManagerSettingsSource(_NoSettings, secret).env_vars


@contextmanager
def _azure(vault_url: str) -> Iterator[Variables]:
    from azure.identity import DefaultAzureCredential
    from pydantic_settings import AzureKeyVaultSettingsSource

    with DefaultAzureCredential() as credential:
        yield AzureKeyVaultSettingsSource(_NoSettings, vault_url, credential).env_vars


@contextmanager
def _google(project: str) -> Iterator[Variables]:
    from google.cloud.secretmanager import SecretManagerServiceClient
    from pydantic_settings import GoogleSecretManagerSettingsSource

    # Not its gRPC transport: a channel that zconfig does not know of would not survive a fork.
    with SecretManagerServiceClient(transport="rest") as client:
        source = GoogleSecretManagerSettingsSource(
            _NoSettings, project_id=project, secret_client=client
        )
        # Since pydantic-settings 2.15 there are no variables before the first call.
        source()
        yield source.env_vars


_NAMES_AND_VALUES = "store names and values in the secret, e.g. ZILLIZ_URI and ZILLIZ_TOKEN"
_AWS = _Manager(
    "AWS Secrets Manager",
    option="ZCONFIG_AWS_SECRET",
    extra="aws",
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
)
_AZURE = _Manager(
    "Azure Key Vault",
    option="ZCONFIG_AZURE_VAULT",
    extra="azure",
    opened=_azure,
    remedies={
        "ClientAuthenticationError": "give the Azure SDK credentials: an identity or variables",
        "HTTP 401": "give the Azure SDK credentials of the vault's own tenant",
        "HTTP 403": "grant the role Key Vault Secrets User, or open the vault's firewall",
        "ServiceRequestError": "correct the vault's URL, or let this host reach it",
    },
    remedy="check that `az keyvault secret list` reads it from here",
)
_GOOGLE = _Manager(
    "Google Secret Manager",
    option="ZCONFIG_GOOGLE_PROJECT",
    extra="google",
    opened=_google,
    remedies={
        "DefaultCredentialsError": "give the Google SDK credentials: a service account or a file",
        "PermissionDenied": "grant the roles Secret Manager Viewer and Secret Accessor",
    },
    remedy="check that `gcloud secrets list` reads it from here",
)


def manager_readings(
    aws_secret: str | None,
    azure_vault: str | None,
    google_project: str | None,
    known: Sequence[Reading] = (),
) -> tuple[Reading, ...]:
    """Read the secret managers that are configured, over the network.

    Args:
        aws_secret: As `read_aws` wants it; `None` or empty if it is not to be read.
        azure_vault: As `read_azure` wants it, likewise.
        google_project: As `read_google` wants it, likewise.
        known: What takes the place of a reading of the same name, which is not made.

    Returns:
        One reading per manager, highest precedence first. One that fails, or does not answer in
        time, is one problem, and the others are read.

    Example:
        >>> manager_readings(None, None, None)
        ()
    """
    wanted = (
        (_AWS, read_aws, aws_secret),
        (_AZURE, read_azure, azure_vault),
        (_GOOGLE, read_google, google_project),
    )
    by_name = {reading.name: reading for reading in known}
    return tuple(
        by_name.get(manager.name) or read(subject) for manager, read, subject in wanted if subject
    )


def read_aws(secret: str) -> Reading:
    """Read the names and values that one secret of AWS Secrets Manager holds, as a JSON object.

    Args:
        secret: The secret's name or ARN. Region and credentials are what boto3 finds, e.g. in
            `AWS_DEFAULT_REGION` and `AWS_PROFILE`.
    """
    return _read(_AWS, secret, secret)


def read_azure(vault_url: str) -> Reading:
    """Read the secrets of an Azure Key Vault whose names begin with `zilliz-` or `zconfig-`.

    Key Vault's names have only letters, digits and `-`, so `zilliz-prod-token` stands for
    `ZILLIZ_PROD_TOKEN`. See
    https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates.

    Args:
        vault_url: The vault's URL, e.g. `https://my-vault.vault.azure.net/`.
    """
    return _read(_AZURE, vault_url, redact_uri(vault_url))


def read_google(project: str) -> Reading:
    """Read the secrets of a Google project whose names begin with `ZILLIZ_` or `ZCONFIG_`.

    Of each the latest version counts. In a name, in any case of letters, `-` separates as `_` does.

    Args:
        project: The project's id or number.
    """
    return _read(_GOOGLE, project, project)


def _read(manager: _Manager, subject: str, shown: str) -> Reading:
    shown = printable(shown)
    return read_in_time(
        partial(_read_opened, manager, subject, shown), partial(_failed, manager, shown)
    )


def _read_opened(manager: _Manager, subject: str, shown: str) -> Reading:
    try:
        with manager.opened(subject) as variables:
            return read_mapping(variables, source=manager.name, path=shown)
    except ImportError:
        return _missing(manager, shown)


def _missing(manager: _Manager, shown: str) -> Reading:
    problem = Problem(
        "missing_extra",
        "needs packages that are not installed",
        f"run: {install_command(manager.extra)}",
        origin=Origin(manager.name, manager.option, shown),
    )
    return Reading(manager.name, problems=(problem,))


def _failed(manager: _Manager, shown: str, cause: str) -> Reading:
    problem = Problem(
        "manager_failed",
        f"could not be read ({cause})",
        manager.remedies.get(cause, manager.remedy),
        origin=Origin(manager.name, manager.option, shown),
    )
    return Reading(manager.name, problems=(problem,))
