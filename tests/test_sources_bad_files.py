"""Every source that reads files, and every file that is not what it should be."""

from __future__ import annotations

import asyncio
import os
import queue
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread

import grpc
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.loops import faces_of
from tests.support.registries import registry
from tests.test_sources_files import by_root, nobody, open_directory
from zconfig._registry import Connections
from zconfig._settings.configuration import Configuration
from zconfig._settings.load import load
from zconfig._sources.base import FileStatus
from zconfig.errors import ConfigurationError, ConnectError, UnknownAliasError
from zconfig.testing import FakeServer, fake_server

__all__ = ["open_directory"]  # a fixture

TOKEN = "s3cret-pa55"
FIELDS = ("URI", "TOKEN", "USER", "PASSWORD", "DB_NAME", "TIMEOUT", "TLS_CA", "TOKEN_FILE", "X")
URIS = {
    "ZILLIZ_BAD_URI": "https://in03-ab12.serverless.eu.vectordb.zillizcloud.com",
    "ZILLIZ_GOOD_URI": "https://db",
    "ZILLIZ_GOOD_TOKEN": "good",
}

OWN = {**URIS, "ZILLIZ_BAD_URI": "https://db"}  # it may want no credentials


@dataclass(frozen=True)
class Source:
    """Where the token of the alias `bad` stands.

    Args:
        file: The file it is read from.
        environ: What makes the source read it.
        is_dotenv: Whether the file holds variables, and not the token alone.
    """

    file: Path
    environ: dict[str, str]
    is_dotenv: bool = False


def dotenv(directory: Path) -> Source:
    return Source(directory / ".env", {}, is_dotenv=True)


def file_form(directory: Path) -> Source:
    file = directory / "token"
    return Source(file, {"ZILLIZ_BAD_TOKEN_FILE": str(file)})


def secrets_directory(directory: Path) -> Source:
    return Source(make(directory / "secrets") / "zilliz_bad_token", secrets_of(directory))


def nested_secrets_directory(directory: Path) -> Source:
    return Source(make(make(directory / "secrets") / "bad") / "token", secrets_of(directory))


def service_binding(directory: Path) -> Source:
    binding = make(make(directory / "bindings") / "bad")
    (binding / "type").write_text("milvus")
    (binding / "type").chmod(0o444)
    return Source(binding / "token", {"SERVICE_BINDING_ROOT": str(directory / "bindings")})


def secrets_of(directory: Path) -> dict[str, str]:
    return {"ZCONFIG_SECRETS_DIR": str(directory / "secrets")}


def make(directory: Path) -> Path:
    directory.mkdir()
    directory.chmod(0o755)
    return directory


SOURCES = [dotenv, file_form, secrets_directory, nested_secrets_directory, service_binding]


def write(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    file.chmod(0o600)


def fifo(file: Path, _: bytes) -> None:
    os.mkfifo(file)


def directory(file: Path, _: bytes) -> None:
    file.mkdir()


def huge(file: Path, content: bytes) -> None:
    write(file, content)
    os.truncate(file, 200 * 1024 * 1024)


def binary(file: Path, content: bytes) -> None:
    write(file, content + b"\x00\xff\xfe")


def utf_16(file: Path, content: bytes) -> None:
    write(file, content.decode().encode("utf-16"))


def byte_order_mark(file: Path, content: bytes) -> None:
    write(file, b"\xef\xbb\xbf" + content)


def line_ends_of_windows(file: Path, content: bytes) -> None:
    write(file, content.replace(b"\n", b"\r\n"))


def unbalanced_quote(file: Path, content: bytes) -> None:
    write(file, content.replace(TOKEN.encode(), b'"' + TOKEN.encode()))


def world_writable(file: Path, content: bytes) -> None:
    write(file, content)
    file.chmod(0o666)


def unreadable(file: Path, content: bytes) -> None:
    write(file, content)
    file.chmod(0o000)


def loop(file: Path, _: bytes) -> None:
    file.symlink_to(file.name)


def link_that_leaves(file: Path, content: bytes) -> None:
    app = next(parent for parent in file.parents if parent.name == "app")
    outside = make(app.parent / "outside")
    write(outside / "file", content)
    file.symlink_to(outside / "file")


FILES: list[tuple[Callable[[Path, bytes], None], str | None]] = [
    (fifo, "not_regular"),
    (directory, "is_directory"),
    (huge, "too_large"),
    (binary, "not_text"),
    (utf_16, "not_text"),
    (byte_order_mark, None),
    (line_ends_of_windows, None),
    (unbalanced_quote, "unbalanced_quote"),
    (world_writable, "world_writable"),
    (unreadable, "unreadable"),
    (loop, "loop"),
    (link_that_leaves, "outside_directory"),
]


def expected(source: Source, code: str | None) -> str | None:
    """What is a mistake in one kind of file need not be one in another."""
    may_have_quotes = not source.is_dotenv
    may_lead_anywhere = source.is_dotenv or "ZILLIZ_BAD_TOKEN_FILE" in source.environ
    if (code == "unbalanced_quote" and may_have_quotes) or (
        code == "outside_directory" and may_lead_anywhere
    ):
        return None
    return code


def read(
    environ: dict[str, str], directory: Path, *, secrets: Path = Path("/nowhere")
) -> Configuration:
    """Read the configuration in a thread, so that it cannot make the test hang."""
    answers: queue.SimpleQueue[Configuration] = queue.SimpleQueue()
    Thread(
        target=lambda: answers.put(load(environ, directory, system_secrets=str(secrets))),
        daemon=True,
    ).start()
    return answers.get(timeout=20)


@pytest.mark.parametrize(("spoil", "code"), FILES, ids=[spoil.__name__ for spoil, _ in FILES])
@pytest.mark.parametrize("place", SOURCES)
def test_a_bad_file_is_one_problem_that_names_it_and_costs_no_other_alias(
    open_directory: Path,
    place: Callable[[Path], Source],
    spoil: Callable[[Path, bytes], None],
    code: str | None,
) -> None:
    source = place(make(open_directory / "app"))
    line = f"ZILLIZ_BAD_TOKEN={TOKEN}\nOTHER=1\n" if source.is_dotenv else f"{TOKEN}\n"
    spoil(source.file, line.encode())

    with nobody() if spoil is unreadable else nullcontext():
        configuration = read({**URIS, **source.environ}, open_directory / "app")

    assert "good" in configuration.aliases
    code = expected(source, code)
    if code is None:
        token = configuration.aliases["bad"].token
        assert configuration.problems == ()
        assert token is not None
        assert token.get_secret_value().strip('"') == TOKEN
        return
    [problem] = configuration.problems
    harmless = source.is_dotenv and code == "is_directory"  # it holds no settings
    assert (problem.code, problem.severity) == (code, "warning" if harmless else "error")
    assert str(source.file.name if source.is_dotenv else source.file) in str(problem)
    assert TOKEN not in str(problem)
    if harmless:
        return
    assert problem in configuration.errors_required
    assert (problem.alias, "bad" in configuration.aliases) == ("bad", False)


# --- places that nobody named -------------------------------------------------------------------

COMPLETE = {**URIS, "ZILLIZ_BAD_TOKEN": TOKEN}


def told(configuration: Configuration) -> list[tuple[str, str, str | None]]:
    return [(each.code, each.severity, each.alias) for each in configuration.problems]


def planted(file: Path, content: bytes) -> None:
    write(file, content)
    os.chown(file, 1234, 1234)


FOUND = [
    (unreadable, "unreadable"),
    (utf_16, "not_text"),
    (huge, "too_large"),
    (world_writable, "world_writable"),
    pytest.param(planted, "foreign_owner", marks=by_root),
]


def test_a_directory_in_the_place_of_a_dotenv_file_is_an_error_of_nobody(
    open_directory: Path,
) -> None:
    directory(open_directory / ".env", b"")  # as `python -m venv .env` makes one

    lacking = read(URIS, open_directory)
    strict = read({**URIS, "ZCONFIG_STRICT": "1"}, open_directory)

    assert (told(lacking), len(lacking.aliases)) == ([("is_directory", "warning", None)], 2)
    assert told(strict) == [("is_directory", "error", None)]


@pytest.mark.parametrize(("spoil", "code"), FOUND)
def test_a_dotenv_file_that_nobody_named_concerns_only_aliases_that_lack_something(
    open_directory: Path, spoil: Callable[[Path, bytes], None], code: str
) -> None:
    spoil(open_directory / ".env", b"ZILLIZ_BAD_TOKEN=planted\nZILLIZ_BAD_PROXY=http://evil\n")

    with nobody() if spoil is unreadable else nullcontext():
        complete = read(COMPLETE, open_directory)
        own = read(OWN, open_directory)
        lacking = read(URIS, open_directory)
        homeless = read({"ZILLIZ_BAD_TOKEN": TOKEN}, open_directory)
        strict = read({**COMPLETE, "ZCONFIG_STRICT": "1"}, open_directory)
        off = read({**COMPLETE, "ZCONFIG_ENV_FILE": "off"}, open_directory)

    assert told(complete) == told(own) == [(code, "warning", None)]
    assert complete.problems[0].remedy.endswith(", or set ZCONFIG_ENV_FILE=off")
    assert "bad" in own.aliases
    assert complete.aliases["bad"].proxy is None
    assert (told(lacking), [*lacking.aliases]) == ([(code, "error", "bad")], ["good"])
    assert told(homeless) == [(code, "error", "bad"), ("missing_uri", "error", "bad")]
    assert told(strict) == [(code, "error", None)]
    assert (told(off), len(off.aliases)) == ([], 2)


def test_a_dotenv_file_that_somebody_named_must_be_readable(open_directory: Path) -> None:
    world_writable(open_directory / "app.env", b"")

    named = read({**COMPLETE, "ZCONFIG_ENV_FILE": "app.env"}, open_directory)

    assert told(named) == [("world_writable", "error", None)]


def test_where_nothing_is_configured_the_file_that_was_passed_over_is_told_of_first(
    tmp_path: Path,
) -> None:
    world_writable(tmp_path / ".env", b"ZILLIZ_URI=http://db")

    with registry() as connections:
        for use in (connections.autoconnect, connections.connect):
            with pytest.raises(ConfigurationError) as caught:
                use()
            codes = [each.code for each in caught.value.problems]
            assert codes == ["world_writable", "nothing_configured"]
            assert caught.value.problems[0].remedy.startswith("run chmod go-w on it")


@pytest.mark.parametrize("other", ["http://db", "https://in01-ab.cloud.zilliz.com"])
def test_where_an_alias_is_unknown_the_file_that_was_passed_over_is_told_of(
    other: str, tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    world_writable(file, b"ZILLIZ_URI=http://db")
    environ = {"ZILLIZ_PROD_URI": other, "ZILLIZ_STAGE_URI": other}  # Zilliz Cloud lacks a token
    with registry(**environ) as connections:
        for use in (connections.spec, connections.connect, connections.autoconnect):
            with pytest.raises(UnknownAliasError, match="configured: prod, stage") as caught:
                use("default")
            told = [(e.code, e.alias, e.severity) for e in caught.value.problems]
            assert told == [
                ("unknown_alias", "default", "error"),
                ("world_writable", "default", "error"),
            ]
            assert "ZCONFIG_ENV_FILE=off" in caught.value.problems[1].remedy
    file.chmod(0o600)
    with registry(**environ) as connections:  # as the remedy has it
        assert connections.spec("default").endpoint.host == "db"


def test_where_an_alias_is_unknown_a_file_that_was_read_all_the_same_is_not_told_of(
    tmp_path: Path,
) -> None:
    make(tmp_path / ".env")  # a directory, as `python -m venv .env` makes one
    (tmp_path / ".env.local").write_text("ZILLIZ_PROD_URI=http://db")
    (tmp_path / ".env.local").chmod(0o644)
    with registry() as connections, pytest.raises(UnknownAliasError) as caught:
        connections.spec("default")
    assert [each.code for each in caught.value.problems] == ["unknown_alias"]


def test_a_directory_that_may_be_entered_and_not_listed_is_tried_by_name(
    open_directory: Path,
) -> None:
    secrets = make(open_directory / "secrets")
    nested = make(secrets / "bad")
    for file in (secrets / "zilliz_bad_token", secrets / "zilliz-good-user", nested / "db_name"):
        file.write_text("value")
        file.chmod(0o444)
    nested.chmod(0o711)
    secrets.chmod(0o711)

    with nobody():
        found = read(URIS, open_directory, secrets=secrets)
        named = read({**URIS, "ZCONFIG_SECRETS_DIR": str(secrets)}, open_directory)

    assert found.aliases["bad"].token is not None
    assert found.aliases["bad"].db_name is None
    assert FileStatus(str(secrets), "tried by name") in found.files
    assert {each.code for each in found.problems} == {"readable_by_others"}
    assert named.aliases["bad"].db_name == "value"
    assert ("not_listed", "warning", None) in told(named)


def test_a_binding_that_may_be_entered_and_not_listed_is_tried_by_name(
    open_directory: Path,
) -> None:
    source = service_binding(make(open_directory / "app"))
    write(source.file, TOKEN.encode())
    source.file.chmod(0o444)
    for place in (source.file.parent, source.file.parent.parent):
        place.chmod(0o711)

    with nobody():
        configuration = read({**URIS, **source.environ}, open_directory)

    token = configuration.aliases["bad"].token
    assert token is not None
    assert token.get_secret_value() == TOKEN


def test_secrets_that_nobody_named_and_that_cannot_be_read_are_a_warning(
    open_directory: Path,
) -> None:
    secrets = make(open_directory / "secrets")
    secrets.chmod(0o000)

    with nobody():
        complete = read(COMPLETE, open_directory, secrets=secrets)
        own = read(OWN, open_directory, secrets=secrets)
        lacking = read(URIS, open_directory, secrets=secrets)

    assert told(complete) == told(own) == [("unreadable", "warning", None)]
    assert "bad" in own.aliases
    assert told(lacking) == [("unreadable", "error", "bad")]


@pytest.mark.parametrize("named", [False, True])
def test_secrets_that_cannot_be_read_are_turned_off_as_the_remedy_says(
    open_directory: Path, *, named: bool
) -> None:
    secrets = make(open_directory / "system")
    secrets.chmod(0o000)
    source = secrets_directory(open_directory)
    write(source.file, TOKEN.encode())
    source.file.chmod(0o444)
    environ = {**URIS, "ZCONFIG_STRICT": "1", **(source.environ if named else {})}

    with nobody():
        [problem] = read(environ, open_directory, secrets=secrets).errors
        variable, _, value = problem.remedy.partition(", or set ")[2].partition("=")
        followed = read({**environ, variable: value}, open_directory, secrets=secrets)

    assert (problem.code, problem.severity, variable) == (
        "unreadable",
        "error",
        "ZCONFIG_SECRETS_DIR",
    )
    assert (followed.errors, [*followed.aliases]) == ((), ["bad", "good"])
    assert (followed.aliases["bad"].token is not None) is named


@by_root
@pytest.mark.parametrize("place", [file_form, secrets_directory, service_binding])
def test_a_secret_of_a_stranger_in_a_place_that_somebody_named_is_a_warning(
    open_directory: Path, place: Callable[[Path], Source]
) -> None:
    source = place(make(open_directory / "app"))
    planted(source.file, TOKEN.encode())

    configuration = read({**URIS, **source.environ}, open_directory / "app")

    assert told(configuration) == [("foreign_owner", "warning", "bad")]
    assert "bad" in configuration.aliases


@by_root
def test_a_secret_that_a_stranger_planted_is_never_used(open_directory: Path) -> None:
    secrets = make(open_directory / "secrets")
    planted(secrets / "zilliz_bad_token", b"planted")
    (secrets / "zilliz_good_proxy").symlink_to("zilliz_bad_token")

    lacking = read(URIS, open_directory, secrets=secrets)
    complete = read(COMPLETE, open_directory, secrets=secrets)

    assert told(lacking) == [
        ("foreign_owner", "error", "bad"),
        ("foreign_owner", "error", "good"),
    ]
    assert told(complete)[0] == ("foreign_owner", "warning", "bad")
    token = complete.aliases["bad"].token
    assert token is not None
    assert token.get_secret_value() == TOKEN


# --- secrets whose names are no variables' ------------------------------------------------------

OTHERS = ("postgres_password", "milvus_uri", "milvus_ca.pem", "tls.key", "users", "api_token")


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A directory that has secrets of other applications in it."""
    directory = make(tmp_path / "secrets")
    for name in OTHERS:
        write(directory / name, TOKEN.encode())
    make(directory / "milvus")
    return directory


@pytest.mark.parametrize(
    ("name", "stems", "variable"),
    [
        ("token", ["ZILLIZ"], "ZILLIZ_TOKEN"),
        ("milvus_token", ["ZILLIZ"], "ZILLIZ_TOKEN"),
        ("milvus-password", ["ZILLIZ"], "ZILLIZ_PASSWORD"),
        ("username", ["ZILLIZ_PROD"], "ZILLIZ_PROD_USER"),
        ("zilliz_cloud_key", ["ZILLIZ"], "ZILLIZ_TOKEN"),
        ("my_zilliz_secret", ["ZILLIZ", "ZILLIZ_PROD"], "ZILLIZ_TOKEN"),
        ("milvus_prod_token", ["ZILLIZ", "ZILLIZ_PROD"], "ZILLIZ_PROD_TOKEN"),
    ],
)
def test_a_secret_whose_name_is_no_variables_is_named_where_credentials_are_missing(
    secrets: Path, name: str, stems: list[str], variable: str
) -> None:
    write(secrets / name, TOKEN.encode())
    environ = {f"{stem}_URI": "https://db" for stem in stems}
    tokens = {f"{stem}_TOKEN": "key" for stem in stems}

    found = read(environ, secrets, secrets=secrets)
    complete = read(environ | tokens, secrets, secrets=secrets)
    broken = {f"{stem}_TOKEN_FILE": "/nowhere" for stem in stems}
    unusable = read(environ | broken, secrets, secrets=secrets)

    [problem] = found.problems
    assert (problem.code, problem.severity) == ("misnamed_secret", "warning")
    assert problem.alias == ("prod" if "PROD" in variable else "default")
    assert (
        problem.remedy
        == f"rename it to {variable.lower()}, or set {variable}_FILE={secrets / name}"
    )
    assert (len(found.aliases), complete.problems) == (len(stems), ())
    assert {each.code for each in unusable.problems} == {"missing"}


REFUSES = grpc.StatusCode.UNAUTHENTICATED

# What is set beside the URI of the server, and what the error of a failed connect says of it.
CAUSES = {
    "a near name": ({"ZILLIZ_TOKE": TOKEN}, "ZILLIZ_TOKE (environment): is not a known name; did"),
    "another near name": ({"ZILLIZ_TOKEN": "x", "ZILLIZ_APIKEY": TOKEN}, "mean ZILLIZ_API_KEY?"),
    "a misspelt prefix": ({"ZILIZ_TOKEN": TOKEN}, "is not read; did you mean ZILLIZ_TOKEN?"),
    "another tool's name": ({"MILVUS_API_KEY": TOKEN}, "is not read; did you mean ZILLIZ_TOKEN?"),
    "an alias": ({"ZILLIZ_API_TOKEN": TOKEN}, "did you mean ZILLIZ_TOKEN?"),
    "another endpoint's": ({"MILVUS_TOKEN": TOKEN}, "is only for the endpoint in MILVUS_URI"),
    "quotes": ({"ZILLIZ_TOKEN": f"'{TOKEN}'"}, "ZILLIZ_TOKEN (environment): the value is enclosed"),
    "a comment": ({"ZILLIZ_TOKEN": f"{TOKEN} # mine"}, "the value contains a # after"),
    "a placeholder": ({"ZILLIZ_TOKEN": "${TOKEN}"}, "the value is a placeholder"),
    "no profile": ({"ZCONFIG_PROFILE": "prd"}, "ZCONFIG_PROFILE (environment): names a profile"),
}


def failure(
    server: FakeServer,
    environ: dict[str, str],
    connect: Callable[[Connections], object] = Connections.connect,
    **places: Path,
) -> str:
    """Connect to a server that refuses, and return the hint of the error."""
    read_again = partial(read, {"ZILLIZ_URI": server.uri, **environ}, **places)
    with closing(Connections(read_again)) as connections, pytest.raises(ConnectError) as caught:
        connect(connections)
    assert TOKEN not in str(caught.value)
    assert caught.value.hint in str(caught.value)
    return caught.value.hint


def on_asyncio(connections: Connections) -> None:
    asyncio.run(faces_of(connections).aio.connect())


def test_the_error_of_a_failed_connect_quotes_what_may_be_the_cause(
    tmp_path: Path, secrets: Path
) -> None:
    write(secrets / "milvus_token", TOKEN.encode())
    utf_16(tmp_path / ".env", b"ZILLIZ_TOKEN=x")
    with fake_server() as server:
        server.fail(REFUSES, "missing authorization in header")
        here = partial(failure, server, directory=tmp_path / "none")
        hints = {name: here(environ) for name, (environ, _) in CAUSES.items()}
        misnamed = here({}, secrets=secrets)
        unreadable = failure(server, {}, directory=tmp_path)
        asynchronous = here({"ZILLIZ_TOKE": TOKEN}, on_asyncio)
        several = here(
            dict.fromkeys(["ZILLIZ_TOKE", "ZILLIZ_TOKN", "ZILLIZ_TKEN", "ZILLIZ_TOKEEN"], "x")
        )
        unrelated = here({"ZILLIZ_TIMEOT": "5", "ZILLIZ_PROD_TOKE": "x", "MILVUS_DB_NAMES": "x"})
    with fake_server(databases=["default"]) as server:
        here = partial(failure, server, directory=tmp_path / "none")
        database = here({"ZILLIZ_DB_NAME": "sales", "ZILLIZ_DBNAME": "sale", "ZILLIZ_TOKE": "x"})

    assert {n: h for n, h in hints.items() if CAUSES[n][1] not in h} == {}
    assert asynchronous == hints["a near name"]
    assert f"ZILLIZ_TOKEN_FILE={secrets / 'milvus_token'}" in misnamed
    assert ".env (dotenv): the file is not UTF-8 text" in unreadable
    assert several.count("did you mean") == 3
    assert "did you mean" not in unrelated
    assert database.startswith("ZILLIZ_DBNAME (environment): is not a known name")
    assert "TOKE" not in database


def test_an_alias_that_is_not_configured_is_told_of_what_was_meant_for_it(tmp_path: Path) -> None:
    good = {"ZILLIZ_GOOD_URI": "http://db"}
    near = {"ZILLIZ_PROD_URL": "http://db", "ZILLIZ_STAGING_TOKEN": "x", "ZILLIZ_STAGING_URL": "x"}
    with closing(Connections(lambda: read({**good, **near}, tmp_path))) as connections:
        for alias in ("prod", "staging"):
            with pytest.raises(ConfigurationError, match=f"mean ZILLIZ_{alias.upper()}_URI"):
                connections.connect(alias)


# --- values that hold more than was meant -------------------------------------------------------


def environment(_: Path) -> Source:
    return Source(Path("/nowhere"), {}, is_dotenv=True)


QUESTIONABLE = {
    " key": "surrounding_space",
    "key ": "surrounding_space",
    '"key"': "quoted_value",
    "'key'": "quoted_value",
    "key # mine": "comment_in_value",
    "${TOKEN}": "placeholder",
    "${TOKEN:-key}": "placeholder",
    "$(cat /run/token)": "placeholder",
    "${{ secrets.TOKEN }}": "placeholder",
    "<your-token>": "placeholder",
}


def put(source: Source, value: str) -> dict[str, str]:
    """Write a value of the alias `bad` where a source reads it, and return what makes it read."""
    if source.file == Path("/nowhere"):
        return {"ZILLIZ_BAD_TOKEN": value}
    quoted = value.replace("'", "\\'")
    text = f"ZILLIZ_BAD_TOKEN='{quoted}'\n" if source.is_dotenv else f"{value}\n"
    write(source.file, text.encode())
    return source.environ


@pytest.mark.parametrize(("value", "code"), QUESTIONABLE.items())
@pytest.mark.parametrize("place", [environment, *SOURCES])
def test_what_was_not_meant_to_be_in_a_value_is_kept_and_reported_from_every_source(
    open_directory: Path, place: Callable[[Path], Source], value: str, code: str
) -> None:
    environ = put(place(make(open_directory / "app")), value)

    configuration = read({**URIS, **environ}, open_directory / "app")

    [problem] = configuration.problems
    assert (problem.code, problem.severity) == (code, "warning")
    assert (problem.alias, problem.field) == ("bad", "token")
    token = configuration.aliases["bad"].token
    assert token is not None
    assert token.get_secret_value() == value
    assert value not in str(problem)


def test_a_placeholder_in_single_quotes_of_a_dotenv_file_is_told_to_be_without(
    tmp_path: Path,
) -> None:
    write(tmp_path / ".env", b"ZILLIZ_BAD_TOKEN='${TOKEN}'\n")
    [problem] = read({**URIS, "TOKEN": TOKEN}, tmp_path).problems
    assert problem.remedy == "remove the single quotes, or write the value itself"
    write(tmp_path / ".env", b"ZILLIZ_BAD_TOKEN=${TOKEN}\n")
    assert read({**URIS, "TOKEN": TOKEN}, tmp_path).problems == ()


@pytest.mark.parametrize("value", ["key#1", "a${b}", "pa$$word", "it's", '"', "#key", "a b", "$(x"])
def test_what_may_well_be_part_of_a_value_is_not_reported(tmp_path: Path, value: str) -> None:
    assert read({**URIS, "ZILLIZ_BAD_TOKEN": value}, tmp_path).problems == ()


@pytest.mark.parametrize(
    "environ",
    [
        {"ZILLIZ_TIMEOUT": " 5 "},
        {"ZILLIZ_COLLECTION_NAME": "'docs' "},
        {"ZILLIZ_URI": "${URI"},
        {"ZCONFIG_WAIT": " 3"},
    ],
)
def test_white_space_and_quotes_that_are_not_kept_or_not_ours_are_not_reported(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    codes = [p.code for p in read({"ZILLIZ_URI": "https://db", **environ}, tmp_path).problems]
    assert codes == (["placeholder"] if "ZILLIZ_URI" in environ else [])


@pytest.mark.parametrize(
    "uri",
    [
        "${ZILLIZ_URI}",
        "$(uri)",
        "${{ secrets.URI }}",
        " ${{ vars.URI }}",
        "https://${HOST}:443",
        "https://${HOST:-db}",
        "https://db:${PORT}",
        "https://root:pw@${HOST}",
        "https://db/${DATABASE}",
        "${DIRECTORY}/x.db",
    ],
)
def test_a_uri_with_a_placeholder_in_it_is_told_to_be_that(tmp_path: Path, uri: str) -> None:
    [problem] = read({"ZILLIZ_URI": uri}, tmp_path).problems
    assert str(problem) == (
        "default: ZILLIZ_URI (environment): the URI contains a placeholder that was not replaced; "
        "write the URI itself (docker --env-file and systemd do not replace placeholders)"
    )


def test_a_line_of_an_applications_own_that_is_wrong_is_a_warning(tmp_path: Path) -> None:
    write(tmp_path / ".env", b"ZILLIZ_URI=https://db\nZILLIZ_COLLECTION_NAME='docs\n")
    [problem] = read({}, tmp_path).problems
    assert (problem.code, problem.severity) == ("unbalanced_quote", "warning")


# --- whatever goes wrong -----------------------------------------------------------------------


def fail(*_: object, **__: object) -> None:
    raise RuntimeError(TOKEN)


@pytest.mark.parametrize("place", SOURCES)
def test_a_source_that_fails_is_one_problem_and_costs_no_other(
    open_directory: Path, place: Callable[[Path], Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = place(make(open_directory / "app"))
    write(source.file, TOKEN.encode())
    monkeypatch.setattr("zconfig._sources.files._read_content", fail)

    configuration = read({**URIS, **source.environ}, open_directory / "app")

    assert "good" in configuration.aliases
    [problem] = configuration.problems
    assert (problem.code, problem.severity) == ("source_failed", "error")
    assert "could not be read (RuntimeError); report it as a bug in zconfig" in str(problem)
    assert TOKEN not in repr(problem)


def test_a_file_that_nobody_named_and_that_fails_is_a_warning_to_aliases_that_lack_nothing(
    open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(open_directory / ".env", b"")
    write(make(open_directory / "secrets") / "zilliz_uri", b"")
    monkeypatch.setattr("zconfig._sources.files._read_content", fail)

    configuration = read(COMPLETE, open_directory, secrets=open_directory / "secrets")

    assert told(configuration) == [("source_failed", "warning", None)] * 2
    assert len(configuration.aliases) == 2


def test_an_environment_that_fails_is_one_problem_and_costs_no_other_source(
    open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(open_directory / ".env", b"ZILLIZ_GOOD_URI=https://db")
    monkeypatch.setattr("zconfig._settings.load.read_environment", fail)

    configuration = read({"ZILLIZ_URI": TOKEN}, open_directory)

    assert list(configuration.aliases) == ["good"]
    assert [p.code for p in configuration.problems] == ["source_failed"]
    assert TOKEN not in repr(configuration.problems)


def test_what_ends_a_process_goes_through_a_source(
    open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("zconfig._settings.load.read_environment", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load({}, open_directory)


PIECES = [
    *(f"{prefix}_{field}" for prefix in ("ZILLIZ", "ZILLIZ_A", "MILVUS") for field in FIELDS),
    *("ZCONFIG_ENV_FILE", "ZCONFIG_SECRETS_DIR", "ZCONFIG_STRICT", "SERVICE_BINDING_ROOT"),
    *("http://h", "https://[::1]:1", "root:p@ss", "./x.db", "${ZILLIZ_URI", ":-", "}", "$(x)"),
    *"===\n\n\n'\"\\ #:@/%-",
    *("\ufeff", "\0", "\udcff", "\u200b", "\r", "9" * 400, "é", "[", "~", ".", "export "),
]
texts = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
names = st.sampled_from(PIECES[: len(FIELDS) * 3 + 4])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(text="\ufeff", environ={}, secret="")
@given(text=texts, environ=st.dictionaries(names, texts, max_size=4), secret=texts)
def test_whatever_is_written_the_configuration_is_read(
    tmp_path: Path, text: str, environ: dict[str, str], secret: str
) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir(exist_ok=True)
    for name in (secrets / "zilliz_token", secrets / "zilliz_a_uri"):
        write(name, secret.encode(errors="surrogateescape"))
    write(tmp_path / ".env", text.encode(errors="surrogateescape"))

    configuration = load(environ, tmp_path, system_secrets=str(secrets))

    assert all(str(problem).isprintable() for problem in configuration.problems)
    assert "source_failed" not in {problem.code for problem in configuration.problems}
