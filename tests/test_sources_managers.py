"""Secret managers: AWS against moto, the others against stand-ins of their SDKs' clients."""

import json
import os
import pickle
import sys
import time
import tomllib
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import azure.identity
import azure.keyvault.secrets
import boto3
import google.auth
import google.cloud.secretmanager
import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
)
from google.api_core.exceptions import NotFound, PermissionDenied, ServiceUnavailable
from google.auth.exceptions import DefaultCredentialsError
from moto import mock_aws

from tests.support import PATIENCE_S
from tests.support.processes import run_python
from zconfig._origin import Origin
from zconfig._redaction import Secret
from zconfig._settings.load import load
from zconfig._settings.options import SECRET_MANAGERS as MANAGER_OPTIONS
from zconfig._settings.options import LoaderOptions
from zconfig._sources.remote import SECRET_MANAGERS, manager_readings
from zconfig.errors import install_command

REPOSITORY = Path(__file__).resolve().parents[1]
SECRET = "s3cret-pa55"
VAULT = "https://acme.vault.azure.net/"
ANYWHERE_ELSE = "set it in the environment, or in a .env file"


def reading_of(option, subject):
    [reading] = manager_readings({option: subject})
    return reading


read_aws = partial(reading_of, "ZCONFIG_AWS_SECRET")
read_azure = partial(reading_of, "ZCONFIG_AZURE_VAULT")
read_google = partial(reading_of, "ZCONFIG_GOOGLE_PROJECT")


def values(reading):
    return {entry.key: str(entry.value.reveal()) for entry in reading.entries}


def only_problem(reading):
    assert reading.entries == ()
    [problem] = reading.problems
    assert (problem.severity, problem.alias) == ("error", None)
    assert SECRET not in f"{problem} {problem!r} {reading!r}"
    return problem


# --- AWS -----------------------------------------------------------------------------------


@pytest.fixture
def aws_environment(monkeypatch, tmp_path):
    """Keep boto3 to what a test sets, and from the network."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    # boto3 keeps what it found once, in a session of the whole process.
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    return monkeypatch


@pytest.fixture
def aws_credentials(aws_environment):
    aws_environment.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    aws_environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    return aws_environment


@pytest.fixture
def store(aws_environment):
    """Store a secret in moto's Secrets Manager; returns its ARN."""
    with mock_aws():
        client = boto3.client("secretsmanager")

        def store(name, content):
            form = "SecretBinary" if isinstance(content, bytes) else "SecretString"
            text = content if isinstance(content, str | bytes) else json.dumps(content)
            return client.create_secret(Name=name, **{form: text})["ARN"]

        yield store


@pytest.fixture
def answering(aws_credentials):
    """Have a server on this host answer in the place of AWS."""
    servers = []

    def answering(status, body, before=lambda: None):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                before()
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        aws_credentials.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", address)

    yield answering
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_names_and_values_of_an_aws_secret_are_a_layer(store):
    store(
        "prod/zilliz",
        {
            "ZILLIZ_PROD_URI": "https://127.0.0.1:19530",
            "zilliz-prod.token": SECRET,
            "ZCONFIG_STRICT": "1",
            "DATABASE_URL": "postgres://",
        },
    )

    reading = read_aws("prod/zilliz")
    assert values(reading) == {
        "ZILLIZ_PROD_URI": "https://127.0.0.1:19530",
        "ZILLIZ_PROD_TOKEN": SECRET,
        "ZCONFIG_STRICT": "1",
    }
    assert (reading.name, reading.problems, reading.files) == ("AWS Secrets Manager", (), ())
    origin = reading.entries[1].origin
    assert origin == Origin("AWS Secrets Manager", "zilliz-prod.token", "prod/zilliz")
    assert str(origin) == "zilliz-prod.token (AWS Secrets Manager prod/zilliz)"


def test_an_aws_secret_is_found_by_its_arn_too(store):
    arn = store("prod/zilliz", {"ZILLIZ_URI": "x"})

    [entry] = read_aws(arn).entries
    assert (entry.value, entry.origin.path) == ("x", arn)


def test_what_a_manager_holds_is_hidden(store):
    store("prod", {"ZILLIZ_TOKEN": SECRET})

    reading = read_aws("prod")
    assert isinstance(reading.entries[0].value, Secret)
    assert SECRET not in repr(reading)
    assert SECRET.encode() not in pickle.dumps(reading)


def test_a_changed_aws_secret_is_read_anew(store):
    store("prod", {"ZILLIZ_TOKEN": "old"})
    assert values(read_aws("prod")) == {"ZILLIZ_TOKEN": "old"}

    boto3.client("secretsmanager").put_secret_value(
        SecretId="prod", SecretString='{"ZILLIZ_TOKEN": "new"}'
    )
    assert values(read_aws("prod")) == {"ZILLIZ_TOKEN": "new"}


def test_an_aws_value_that_is_no_string_is_a_problem_and_the_others_are_read(store):
    store("prod", {"ZILLIZ_TIMEOUT": 1e3, "ZILLIZ_TOKEN": None, "ZILLIZ_URI": "x"})

    reading = read_aws("prod")
    assert values(reading) == {"ZILLIZ_URI": "x"}
    assert [(p.code, p.origin.key) for p in reading.problems] == [
        ("not_text", "ZILLIZ_TIMEOUT"),
        ("unreadable", "ZILLIZ_TOKEN"),
    ]


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (f"token {SECRET}", "JSONDecodeError"),
        (f'["{SECRET}"]', "AttributeError"),
        (SECRET.encode(), "KeyError"),
    ],
)
def test_an_aws_secret_without_names_is_a_problem(store, content, cause):
    store("prod", content)

    problem = only_problem(read_aws("prod"))
    assert str(problem) == (
        f"ZCONFIG_AWS_SECRET (AWS Secrets Manager prod): could not be read ({cause}); "
        "store names and values in the secret, e.g. ZILLIZ_URI and ZILLIZ_TOKEN"
    )


def test_an_aws_secret_that_does_not_exist_is_a_problem(store):
    problem = only_problem(read_aws("zilliz-prod-uri"))

    assert problem.origin == Origin("AWS Secrets Manager", "ZCONFIG_AWS_SECRET", "zilliz-prod-uri")
    assert (problem.code, problem.message, problem.remedy) == (
        "manager_failed",
        "could not be read (ResourceNotFoundException)",
        "correct the secret's name, or AWS_DEFAULT_REGION",
    )


def test_without_aws_credentials_there_is_a_problem(aws_environment):
    problem = only_problem(read_aws("prod"))

    assert "(NoCredentialsError)" in problem.message
    assert "credentials" in problem.remedy


def test_without_an_aws_region_there_is_a_problem(aws_credentials):
    aws_credentials.delenv("AWS_DEFAULT_REGION")

    problem = only_problem(read_aws("prod"))
    assert "(NoRegionError)" in problem.message
    assert problem.remedy == "set AWS_DEFAULT_REGION"


def test_an_aws_endpoint_that_is_not_there_is_a_problem(aws_credentials):
    aws_credentials.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:1")

    problem = only_problem(read_aws("prod"))
    assert "(EndpointConnectionError)" in problem.message
    assert "aws secretsmanager" in problem.remedy


@pytest.mark.parametrize(
    ("status", "body", "cause"),
    [
        (400, {"__type": "AccessDeniedException", "message": SECRET}, "AccessDeniedException"),
        (400, {"__type": "ThrottlingException", "message": SECRET}, "ThrottlingException"),
        (503, {"message": SECRET}, "503"),
    ],
)
def test_what_aws_says_of_a_refusal_is_not_repeated(answering, status, body, cause):
    answering(status, json.dumps(body).encode())

    assert f"({cause})" in only_problem(read_aws("prod")).message


# --- Azure ---------------------------------------------------------------------------------


class FakeVault:
    """In the place of Azure's SecretClient: what it is asked for, in order."""

    def __init__(self, secrets, *, disabled=(), listing_fails=None):
        self.secrets = secrets
        self.disabled = disabled
        self.listing_fails = listing_fails
        self.asked = []

    def __call__(self, vault_url, credential):
        self.asked.append(("open", vault_url, type(credential).__name__))
        return self

    def list_properties_of_secrets(self):
        self.asked.append(("list",))
        if self.listing_fails:
            raise self.listing_fails
        return (
            SimpleNamespace(name=name, enabled=name not in self.disabled) for name in self.secrets
        )

    def get_secret(self, name):
        self.asked.append(("get", name))
        if isinstance(self.secrets[name], Exception):
            raise self.secrets[name]
        return SimpleNamespace(value=self.secrets[name])


@pytest.fixture
def vault(monkeypatch):
    def vault(secrets, **options):
        fake = FakeVault(secrets, **options)
        monkeypatch.setattr(azure.keyvault.secrets, "SecretClient", fake)
        return fake

    return vault


def test_the_names_of_an_azure_vault_are_listed_and_only_ours_are_fetched(vault):
    fake = vault(
        {
            "zilliz-prod-uri": "https://127.0.0.1:19530",
            "database-password": "others",
            "ZILLIZ-PROD-TOKEN": SECRET,
            "zconfig-strict": "1",
            "my-zilliz-uri": "others",
        }
    )

    reading = read_azure(VAULT)
    assert values(reading) == {
        "ZILLIZ_PROD_URI": "https://127.0.0.1:19530",
        "ZILLIZ_PROD_TOKEN": SECRET,
        "ZCONFIG_STRICT": "1",
    }
    assert fake.asked == [
        ("open", VAULT, "DefaultAzureCredential"),
        ("list",),
        ("get", "zilliz-prod-uri"),
        ("get", "ZILLIZ-PROD-TOKEN"),
        ("get", "zconfig-strict"),
    ]
    assert (reading.name, reading.problems) == ("Azure Key Vault", ())
    assert reading.entries[1].origin == Origin("Azure Key Vault", "ZILLIZ-PROD-TOKEN", VAULT)


def test_a_disabled_azure_secret_is_left_alone(vault):
    fake = vault({"zilliz-uri": "x", "zilliz-token": "old"}, disabled={"zilliz-token"})

    assert values(read_azure(VAULT)) == {"ZILLIZ_URI": "x"}
    assert ("get", "zilliz-token") not in fake.asked


def test_an_azure_secret_that_cannot_be_fetched_is_a_problem_and_the_others_are_read(vault):
    vault({"zilliz-prod-token": ResourceNotFoundError(SECRET), "zilliz-uri": "x"})

    reading = read_azure(VAULT)
    [problem] = reading.problems
    assert values(reading) == {"ZILLIZ_URI": "x"}
    assert problem.code == "unreadable"
    assert str(problem) == (
        f"zilliz-prod-token (Azure Key Vault {VAULT}): the value cannot be read "
        "(ResourceNotFoundError); enable it, or grant access to it"
    )


def refused(status):
    error = HttpResponseError(SECRET)
    error.status_code = status
    return error


@pytest.mark.parametrize(
    ("failure", "cause", "remedy"),
    [
        (ClientAuthenticationError(SECRET), "ClientAuthenticationError", "credentials"),
        (ServiceRequestError(SECRET), "ServiceRequestError", "URL"),
        (refused(401), "HTTP 401", "tenant"),
        (refused(403), "HTTP 403", "Key Vault Secrets User"),
        (refused(429), "HTTP 429", "az keyvault"),
        (ValueError(SECRET), "ValueError", "az keyvault"),
    ],
)
def test_an_azure_vault_that_cannot_be_listed_is_a_problem(vault, failure, cause, remedy):
    vault({}, listing_fails=failure)

    problem = only_problem(read_azure(VAULT))
    assert problem.origin == Origin("Azure Key Vault", "ZCONFIG_AZURE_VAULT", VAULT)
    assert f"({cause})" in problem.message
    assert remedy in problem.remedy


def test_credentials_in_the_url_of_a_vault_are_not_shown(vault):
    vault({"zilliz-uri": "x"})

    reading = read_azure(f"https://user:{SECRET}@acme.vault.azure.net/")
    assert SECRET not in repr(reading)
    assert reading.entries[0].origin.path == "https://********@acme.vault.azure.net/"


def test_the_credential_of_azure_is_closed(vault, monkeypatch):
    closed = []
    credential = azure.identity.DefaultAzureCredential
    monkeypatch.setattr(credential, "__exit__", lambda self, *_: closed.append(self))
    vault({})

    read_azure(VAULT)
    assert len(closed) == 1


# --- Google --------------------------------------------------------------------------------


class FakeSecretManager(google.cloud.secretmanager.SecretManagerServiceClient):
    """In the place of Google's client; how names are written is its own."""

    secrets: dict[str, object] = {}  # noqa: RUF012 - a test replaces it
    listing_fails: Exception | None = None
    asked: list[tuple[str, ...]] = []  # noqa: RUF012 - a test replaces it

    def __init__(self, transport):
        self.asked.append(("open", transport))

    def __exit__(self, *_):
        self.asked.append(("close",))

    def list_secrets(self, parent):
        self.asked.append(("list", parent))
        if self.listing_fails:
            raise self.listing_fails
        # As Google has it: the number of the project, and not the id that was asked for.
        return [SimpleNamespace(name=f"projects/123/secrets/{name}") for name in self.secrets]

    def access_secret_version(self, name):
        self.asked.append(("access", name))
        value = self.secrets[name.split("/")[3]]
        if callable(value):
            value = value()
        if isinstance(value, Exception):
            raise value
        return SimpleNamespace(payload=SimpleNamespace(data=value.encode()))


@pytest.fixture
def project(monkeypatch, tmp_path):
    # pydantic-settings before 2.15 asks for credentials even where it is given a client.
    user = {"type": "authorized_user", "client_id": "", "client_secret": "", "refresh_token": ""}
    (tmp_path / "google.json").write_text(json.dumps(user))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "google.json"))

    def project(secrets, *, listing_fails=None):
        monkeypatch.setattr(FakeSecretManager, "secrets", secrets)
        monkeypatch.setattr(FakeSecretManager, "listing_fails", listing_fails)
        monkeypatch.setattr(FakeSecretManager, "asked", [])
        return FakeSecretManager.asked

    client = "SecretManagerServiceClient"
    monkeypatch.setattr(google.cloud.secretmanager, client, FakeSecretManager)
    return project


def test_the_names_of_a_google_project_are_listed_and_only_ours_are_fetched(project):
    asked = project(
        {
            "ZILLIZ_PROD_URI": "https://127.0.0.1:19530",
            "database-password": "others",
            "zilliz-prod-token": f"{SECRET}\n",
            "zconfig_strict": "1",
            "my-zilliz-uri": "others",
        }
    )

    reading = read_google("acme")
    assert values(reading) == {
        "ZILLIZ_PROD_URI": "https://127.0.0.1:19530",
        "ZILLIZ_PROD_TOKEN": SECRET,
        "ZCONFIG_STRICT": "1",
    }
    assert asked == [
        ("open", "rest"),
        ("list", "projects/acme"),
        ("access", "projects/acme/secrets/ZILLIZ_PROD_URI/versions/latest"),
        ("access", "projects/acme/secrets/zilliz-prod-token/versions/latest"),
        ("access", "projects/acme/secrets/zconfig_strict/versions/latest"),
        ("close",),
    ]
    assert (reading.name, reading.problems) == ("Google Secret Manager", ())
    assert reading.entries[1].origin == Origin("Google Secret Manager", "zilliz-prod-token", "acme")


@pytest.mark.parametrize("failure", [PermissionDenied(SECRET), NotFound(SECRET)])
def test_a_google_secret_that_cannot_be_fetched_is_a_problem_and_the_others_are_read(
    project, failure
):
    project({"zilliz-prod-token": failure, "zilliz-uri": "x"})

    reading = read_google("acme")
    [problem] = reading.problems
    assert values(reading) == {"ZILLIZ_URI": "x"}
    assert (problem.code, problem.origin.key) == ("unreadable", "zilliz-prod-token")
    assert SECRET not in str(problem)


@pytest.mark.parametrize(
    ("failure", "remedy"),
    [(PermissionDenied(SECRET), "grant the roles"), (ServiceUnavailable(SECRET), "gcloud secrets")],
)
def test_a_google_project_that_cannot_be_listed_is_a_problem(project, failure, remedy):
    asked = project({}, listing_fails=failure)

    problem = only_problem(read_google("acme"))
    assert problem.origin == Origin("Google Secret Manager", "ZCONFIG_GOOGLE_PROJECT", "acme")
    assert f"({type(failure).__name__})" in problem.message
    assert remedy in problem.remedy
    assert asked[-1] == ("close",)


def test_without_google_credentials_there_is_a_problem(monkeypatch):
    def no_credentials(*_, **__):
        raise DefaultCredentialsError(SECRET)

    monkeypatch.setattr(google.auth, "default", no_credentials)

    problem = only_problem(read_google("acme"))
    assert "(DefaultCredentialsError)" in problem.message
    assert "credentials" in problem.remedy


# --- all of them ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "module", "extra"),
    [
        (read_aws, "boto3", "aws"),
        (read_azure, "azure.identity", "azure"),
        (read_azure, "azure.keyvault.secrets", "azure"),
        (read_google, "google.cloud.secretmanager", "google"),
    ],
)
def test_a_missing_package_is_a_problem_with_the_command_that_installs_it(
    monkeypatch, read, module, extra
):
    monkeypatch.setitem(sys.modules, module, None)

    problem = only_problem(read("https://acme"))
    assert problem.code == "missing_extra"
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    [package] = project["project"]["optional-dependencies"][extra]
    assert problem.remedy == f"run: {install_command(package)}"
    where = f"{problem.origin.key} ({problem.origin.source} https://acme)"
    assert str(problem).startswith(f"{where}: needs packages that are not installed; ")


def test_the_managers_that_are_configured_are_read_in_order(store, vault, project):
    store("prod", {"ZILLIZ_URI": "aws"})
    vault({"zilliz-uri": "azure"})
    project({"zilliz-uri": "google"})

    options = LoaderOptions(aws_secret="prod", azure_vault=VAULT, google_project="acme")
    readings = manager_readings(options.secret_managers)
    assert [values(each)["ZILLIZ_URI"] for each in readings] == ["aws", "azure", "google"]
    options = LoaderOptions(azure_vault=VAULT, google_project="")
    assert [each.name for each in manager_readings(options.secret_managers)] == ["Azure Key Vault"]


def test_every_manager_has_its_option():
    options = LoaderOptions(**dict.fromkeys(MANAGER_OPTIONS, "x"))
    assert list(options.secret_managers) == [each.option for each in SECRET_MANAGERS]


def test_a_failing_manager_does_not_keep_the_others_from_being_read(vault, project):
    vault({}, listing_fails=ServiceRequestError(SECRET))
    project({"zilliz-uri": "google"})

    subjects = {"ZCONFIG_AZURE_VAULT": VAULT, "ZCONFIG_GOOGLE_PROJECT": "acme"}
    azure_reading, google_reading = manager_readings(subjects)
    assert only_problem(azure_reading).code == "manager_failed"
    assert values(google_reading) == {"ZILLIZ_URI": "google"}


@pytest.fixture
def hanging(monkeypatch):
    """Wait for what never comes, but no longer than the test lasts."""
    monkeypatch.setattr("zconfig._sources.remote.LIMIT_S", 0.3)
    over = Event()
    yield over.wait
    over.set()


def hanging_aws(hanging, answering, vault, project):
    answering(200, b"{}", before=hanging)
    return read_aws


def hanging_azure(hanging, answering, vault, project):
    vault({}).list_properties_of_secrets = hanging
    return read_azure


def hanging_google(hanging, answering, vault, project):
    project({"zilliz-uri": hanging})
    return read_google


@pytest.mark.parametrize("hang", [hanging_aws, hanging_azure, hanging_google])
def test_a_manager_that_does_not_answer_is_given_up(hanging, answering, vault, project, hang):
    read = hang(hanging, answering, vault, project)

    started = time.monotonic()
    problem = only_problem(read("acme"))
    assert time.monotonic() - started < PATIENCE_S
    assert (problem.code, problem.message) == (
        "manager_failed",
        "could not be read (no answer in 0.3 s)",
    )
    assert problem.origin.path == "acme"


def test_a_manager_that_does_not_answer_leaves_the_other_aliases_usable(hanging, vault, tmp_path):
    vault({}).list_properties_of_secrets = hanging
    environ = {"ZCONFIG_AZURE_VAULT": VAULT, "ZILLIZ_URI": "http://db"}

    configuration = load(environ, tmp_path, system_secrets=str(tmp_path / "none"))
    assert [problem.code for problem in configuration.errors_required] == ["manager_failed"]
    assert list(configuration.aliases) == ["default"]


@pytest.mark.parametrize("raised", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_an_sdk_that_wants_to_end_the_process_does_not(vault, raised):
    vault({}, listing_fails=raised(SECRET))

    assert f"({raised.__name__})" in only_problem(read_azure(VAULT)).message


def test_an_option_in_a_manager_is_too_late(store, tmp_path):
    options = {"ZCONFIG_STRICT": "1", "zconfig-odd": "1", "ZCONFIG_WAIT": ""}
    store("prod", {**options, "ZILLIZ_TOKNE": "x"})

    environ = {"ZCONFIG_AWS_SECRET": "prod"}
    configuration = load(environ, tmp_path, system_secrets=str(tmp_path / "none"))
    late = [each for each in configuration.problems if each.code == "option_too_late"]
    assert [(str(each.origin), each.severity, each.remedy) for each in late] == [
        (f"{key} (AWS Secrets Manager prod)", "warning", ANYWHERE_ELSE)
        for key in ("ZCONFIG_STRICT", "zconfig-odd")
    ]
    assert configuration.options.strict is False
    assert configuration.errors == ()


def test_no_sdk_is_imported_before_its_manager_is_read():
    done = run_python(
        """
        import sys
        from zconfig._sources.remote import manager_readings
        assert manager_readings({}) == ()
        print([name for name in ("boto3", "botocore", "azure", "google") if name in sys.modules])
        """
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
