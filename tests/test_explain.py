"""Where each value comes from, and why not from elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import zconfig
from tests.support.processes import call_zconfig, run_zconfig
from zconfig._cli.inspect import explanation_parts
from zconfig._cli.render import draw
from zconfig._registry import Connections
from zconfig._settings.explain import AliasExplanation, FieldExplanation
from zconfig._settings.load import load

SECRET = "s3cret-t0ken"
URI = "http://127.0.0.1:1"


def connections_of(directory: Path, **environ: str) -> Connections:
    return Connections(lambda: load(environ, directory, system_secrets=str(directory / "none")))


def alias_of(directory: Path, alias: str = "prod", **environ: str) -> AliasExplanation:
    (found,) = connections_of(directory, **environ).explain(alias).aliases
    return found


def field_of(directory: Path, field: str, **environ: str) -> FieldExplanation:
    return next(f for f in alias_of(directory, **environ).fields if f.field == field)


def write_secret(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o600)
    return str(path)


def test_a_value_names_its_place_and_what_it_shadows(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"# mine\nZILLIZ_PROD_URI={URI}\n")
    (tmp_path / ".env.local").write_text("ZILLIZ_PROD_URI=http://127.0.0.1:2\n")
    found = field_of(tmp_path, "uri", ZILLIZ_PROD_URI="http://127.0.0.1:3")
    assert (found.value, str(found.origin)) == (
        "http://127.0.0.1:3",
        "ZILLIZ_PROD_URI (environment)",
    )
    assert [(str(each.origin), each.value, each.reason) for each in found.shadowed] == [
        ("ZILLIZ_PROD_URI (.env.local:1)", "http://127.0.0.1:2", "environment takes precedence"),
        ("ZILLIZ_PROD_URI (.env:2)", URI, "environment takes precedence"),
    ]


def test_a_shadowed_secret_is_masked_and_can_be_compared(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"ZILLIZ_PROD_TOKEN={SECRET}\n")
    (tmp_path / ".env.local").write_text("ZILLIZ_PROD_TOKEN=another-one\n")
    found = field_of(tmp_path, "token", ZILLIZ_PROD_URI=URI, ZILLIZ_PROD_TOKEN=SECRET)
    assert [each.value for each in found.shadowed] == ["********"] * 2
    assert [each.fingerprint == found.fingerprint for each in found.shadowed] == [False, True]
    assert SECRET not in repr(found)
    assert "another-one" not in repr(found)


@pytest.mark.parametrize(
    ("field", "shadowed", "shown"),
    [
        ("uri", f"https://root:{SECRET}@db", "https://********@db"),
        ("uri", SECRET, None),
        ("proxy", f"http://root:{SECRET}@proxy:3128", "http://********@proxy:3128"),
        ("timeout", SECRET, None),
        ("timeout", "3", "3.0"),
        ("required", "no", "false"),
        ("tls_ca", f"-----BEGIN {SECRET}", None),
        ("db_name", f"https://root:{SECRET}@db", None),
        ("uri_file", SECRET, None),
    ],
)
def test_a_shadowed_value_is_shown_only_if_it_is_valid(
    field: str, shadowed: str, shown: str | None, tmp_path: Path
) -> None:
    name = field.removesuffix("_file")
    texts = {"timeout": "5", "required": "yes", "proxy": "http://proxy:1"}
    right = {"uri": "https://db", **texts}.get(name, "other")
    (tmp_path / ".env").write_text(f"ZILLIZ_PROD_{field.upper()}='{shadowed}'\n")
    environ = {"ZILLIZ_PROD_URI": "https://db", f"ZILLIZ_PROD_{name.upper()}": right}
    found = field_of(tmp_path, name, **environ)
    assert [each.value for each in found.shadowed] == [shown]
    assert SECRET not in repr(found)


def test_a_token_that_a_user_shadows_is_told_as_a_token(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ZILLIZ_PROD_TOKEN=edited-here\n")
    environ = {"ZILLIZ_PROD_USER": "root", "ZILLIZ_PROD_PASSWORD": SECRET}
    token = field_of(tmp_path, "token", ZILLIZ_PROD_URI=URI, **environ)
    assert (token.value, token.origin) == (None, None)
    assert [(str(each.origin), each.reason) for each in token.shadowed] == [
        (
            "ZILLIZ_PROD_TOKEN (.env:1)",
            "environment takes precedence, and sets USER: credentials come from one source",
        )
    ]
    user = field_of(tmp_path, "user", ZILLIZ_PROD_URI=URI, **environ)
    assert user.shadowed == ()


def test_a_default_has_a_value_and_no_origin(tmp_path: Path) -> None:
    found = field_of(tmp_path, "timeout", ZILLIZ_PROD_URI=URI)
    assert (found.value, found.origin, found.is_set) == ("10.0", None, False)


def test_what_is_set_but_empty_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ZILLIZ_PROD_TOKEN=from-the-file\n")
    found = field_of(tmp_path, "token", ZILLIZ_PROD_URI=URI, ZILLIZ_PROD_TOKEN="")
    assert str(found.origin) == "ZILLIZ_PROD_TOKEN (.env:1)"
    assert [str(each) for each in found.empty] == ["ZILLIZ_PROD_TOKEN (environment)"]


def test_a_secret_is_masked_and_has_a_fingerprint(tmp_path: Path) -> None:
    explained = alias_of(tmp_path, ZILLIZ_PROD_URI=URI, ZILLIZ_PROD_TOKEN=SECRET)
    token = next(field for field in explained.fields if field.field == "token")
    assert SECRET not in repr(explained)
    assert token.value == "********"
    assert token.fingerprint is not None
    assert (token.fingerprint.length, len(token.fingerprint.digest)) == (len(SECRET), 8)


def test_a_fingerprint_is_the_same_wherever_the_same_secret_stands(tmp_path: Path) -> None:
    path = write_secret(tmp_path / "token", f"{SECRET}\n")
    here = field_of(tmp_path, "token", ZILLIZ_PROD_URI=URI, ZILLIZ_PROD_TOKEN=SECRET)
    there = field_of(tmp_path, "token", ZILLIZ_PROD_URI=URI, ZILLIZ_PROD_TOKEN_FILE=path)
    other = field_of(tmp_path, "token", ZILLIZ_PROD_URI=URI, ZILLIZ_PROD_TOKEN=f"{SECRET}2")
    marks = [each.fingerprint for each in (here, there, other)]
    digests = [mark.digest for mark in marks if mark]
    assert digests[0] == digests[1] != digests[2]
    assert [mark.had_line_end for mark in marks if mark] == [False, True, False]


def test_the_same_secret_at_another_server_has_another_fingerprint(tmp_path: Path) -> None:
    marks = {
        field_of(tmp_path, "token", ZILLIZ_PROD_URI=uri, ZILLIZ_PROD_TOKEN=SECRET).fingerprint
        for uri in (URI, "http://127.0.0.1:2")
    }
    assert len(marks) == 2


def test_a_line_end_of_a_file_in_a_secrets_directory_is_noted(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir(mode=0o700)
    write_secret(secrets / "zilliz_prod_token", f"{SECRET}\n")
    environ = {"ZILLIZ_PROD_URI": URI, "ZCONFIG_SECRETS_DIR": str(secrets)}
    found = field_of(tmp_path, "token", **environ)
    assert found.fingerprint
    assert found.fingerprint.had_line_end


def test_an_alias_that_is_wrong_is_explained_with_its_problems(tmp_path: Path) -> None:
    environ = {"ZILLIZ_PROD_TOKEN": SECRET, "ZILLIZ_PROD_TIMEOUT": "3"}
    explained = alias_of(tmp_path, ZILLIZ_PROD_URI="nonsense", **environ)
    assert [problem.code for problem in explained.problems] == ["missing_scheme"]
    found = {f.field: (f.value, str(f.origin)) for f in explained.fields if f.is_set}
    assert found == {
        "uri": (None, "ZILLIZ_PROD_URI (environment)"),
        "token": ("********", "ZILLIZ_PROD_TOKEN (environment)"),
        "timeout": ("3.0", "ZILLIZ_PROD_TIMEOUT (environment)"),
    }
    done = call_zconfig("explain", environ={"ZILLIZ_PROD_URI": "nonsense", **environ})
    lines = done.stdout.splitlines()
    assert lines[:3] == [
        "prod",
        "  uri      not valid",
        "           from ZILLIZ_PROD_URI (environment)",
    ]
    assert any(line.startswith("error: prod: ZILLIZ_PROD_URI (environment): ") for line in lines)


def test_the_files_that_were_read_and_looked_for_are_listed_in_order(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("")
    explained = connections_of(tmp_path, ZCONFIG_PROFILE="ci").explain()
    assert [(seen.path, seen.state) for seen in explained.files[:4]] == [
        (".env.ci.local", "absent"),
        (".env.local", "absent"),
        (".env.ci", "absent"),
        (".env", "read"),
    ]


def test_a_control_plane_key_alone_is_noted(tmp_path: Path) -> None:
    explained = connections_of(tmp_path, ZILLIZ_API_KEY=SECRET).explain()
    assert explained.aliases == ()
    assert [str(note.origin) for note in explained.notes] == ["ZILLIZ_API_KEY (environment)"]


def test_an_unknown_alias_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(zconfig.UnknownAliasError, match="configured: prod"):
        connections_of(tmp_path, ZILLIZ_PROD_URI=URI).explain("other")


def test_an_alias_that_code_added_leads_to_its_settings(tmp_path: Path) -> None:
    connections = connections_of(tmp_path, ZILLIZ_PROD_URI=URI)
    connections.add_connection(scratch={"uri": URI})
    with pytest.raises(zconfig.UnknownAliasError) as caught:
        connections.explain("scratch")
    assert "the alias was added in code" in str(caught.value)
    assert "settings('scratch')" in str(caught.value)
    assert connections.settings("scratch").uri


ANSWER = """\
prod
  uri        http://127.0.0.1:2
             from ZILLIZ_PROD_URI (environment)
             not ZILLIZ_PROD_URI (.env:4), http://127.0.0.1:1: environment takes precedence
  token      ******** (12 characters, fingerprint {})
             from ZILLIZ_PROD_TOKEN (environment)
             not ZILLIZ_PROD_TOKEN (.env.local:1), the same value: environment takes precedence
             not ZILLIZ_PROD_TOKEN (.env:3), another value: environment takes precedence
  db_name    default (not set)
  timeout    10.0 (not set)
             not ZILLIZ_PROD_TIMEOUT (.env.local:2): it is empty
  required   true (not set)
  proxy      from the environment, as read by gRPC (not set)
  keepalive  30 (not set)
  pool_size  1 (not set)

sources in {}, highest precedence first:
  environment
  .env.local: read
  .env: read
  /run/secrets: {}
  .env.prod: not a source
"""


def test_the_command_answers_in_one_look(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"\n\nZILLIZ_PROD_TOKEN=edited-here\nZILLIZ_PROD_URI={URI}\n")
    (tmp_path / ".env.local").write_text(f"ZILLIZ_PROD_TOKEN={SECRET}\nZILLIZ_PROD_TIMEOUT=\n")
    (tmp_path / ".env.prod").write_text("ZILLIZ_PROD_TOKEN=in-vain\n")
    environ = {"ZILLIZ_PROD_URI": "http://127.0.0.1:2", "ZILLIZ_PROD_TOKEN": SECRET}
    done = run_zconfig("explain", "prod", environ=environ, directory=tmp_path)
    digest = re.search(r"fingerprint (\w{8})", done.stdout)
    assert digest
    system = "read" if Path("/run/secrets").is_dir() else "absent"
    assert (done.returncode, done.stdout) == (0, ANSWER.format(digest[1], tmp_path, system))


def test_the_commands_json_has_the_same(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("ZILLIZ_PROD_TOKEN=other\n")
    environ = {"ZILLIZ_PROD_URI": URI, "ZILLIZ_PROD_TOKEN": SECRET}
    done = call_zconfig("explain", "--format", "json", environ=environ, directory=tmp_path)
    (alias,) = json.loads(done.stdout)["aliases"]
    token = next(field for field in alias["fields"] if field["field"] == "token")
    assert token["origin"]["text"] == "ZILLIZ_PROD_TOKEN (environment)"
    [shadowed] = token["shadowed"]
    assert shadowed["origin"]["text"] == "ZILLIZ_PROD_TOKEN (.env:1)"
    assert shadowed["fingerprint"]["length"] == 5
    assert token["value"] == "********"
    assert token["fingerprint"]["length"] == len(SECRET)


def test_the_command_exits_3_for_what_is_wrong_and_for_an_unknown_alias(tmp_path: Path) -> None:
    environ = {"ZILLIZ_PROD_URI": "nonsense"}
    assert call_zconfig("explain", environ=environ).returncode == 3
    done = call_zconfig("explain", "other", environ=environ)
    assert (done.returncode, done.stdout) == (3, "")


def test_the_command_says_what_to_do_where_nothing_is_configured() -> None:
    done = call_zconfig("explain")
    assert done.returncode == 3
    assert "no connection is configured; set ZILLIZ_URI in the environment" in done.stdout
    assert "  .env: absent" in done.stdout.splitlines()


def test_names_that_declare_nothing_are_noted_with_the_reason(tmp_path: Path) -> None:
    environ = {"ZILLIZ_PROD_SERVICE_HOST": "10.0.0.1", "ZILLIZ_COLLECTION_NAME": "docs"}
    explained = connections_of(tmp_path, ZILLIZ_URI=URI, **environ, ZCONFIG_STRICT="1").explain()
    assert explained.problems == ()
    assert [(note.origin.key, note.message.split(";")[0]) for note in explained.notes] == [
        ("ZILLIZ_PROD_SERVICE_HOST", "is set by Kubernetes for a service, and is not read"),
        (
            "ZILLIZ_COLLECTION_NAME",
            "is not a field of a connection",
        ),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"TOKEN_FILE": "/no/such/file"},
        {"TOKEN": SECRET, "API_KEY": "another"},
        {"USER": "root"},
        {"TOKEN": SECRET, "USER": "root"},
    ],
    ids=["no file", "a conflict", "half a pair", "two forms"],
)
def test_what_was_edited_in_vain_is_named_though_what_ranks_higher_is_wrong(
    wrong: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("ZILLIZ_PROD_TOKEN=edited-here\n")
    environ = {"ZILLIZ_PROD_URI": URI, **{f"ZILLIZ_PROD_{k}": v for k, v in wrong.items()}}
    [shadowed] = field_of(tmp_path, "token", **environ).shadowed
    assert str(shadowed.origin) == "ZILLIZ_PROD_TOKEN (.env:1)"
    assert shadowed.reason == "the value that takes precedence is invalid, and is not replaced"
    told = call_zconfig("explain", environ=environ, directory=tmp_path).stdout
    assert "not ZILLIZ_PROD_TOKEN (.env:1)" in told
    assert "edited-here" not in told


def test_credentials_in_a_uri_that_does_not_count_are_said_to_go_with_it(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"ZILLIZ_PROD_URI=http://root:{SECRET}@db\n")
    [shadowed] = field_of(tmp_path, "uri", ZILLIZ_PROD_URI=URI).shadowed
    assert shadowed.value == "http://********@db"
    assert shadowed.reason.endswith("the credentials in the URI are not used either")


@pytest.mark.parametrize(
    ("uri", "field", "shown"),
    [
        ("http://db", "keepalive", "30"),
        ("https://in03-x.serverless.aws-eu-central-1.vectordb.zillizcloud.com", "keepalive", "300"),
        ("http://db", "db_name", "default"),
        ("https://db", "tls_server_name", "db"),
        ("http://db", "tls_server_name", None),
        ("http://db", "proxy", "from the environment, as read by gRPC"),
        ("./x.db", "proxy", None),
    ],
)
def test_a_default_that_depends_on_the_endpoint_is_shown(
    uri: str, field: str, shown: str | None, tmp_path: Path
) -> None:
    found = field_of(tmp_path, field, ZILLIZ_PROD_URI=uri)
    assert (found.value, found.is_set) == (shown, False)


def test_the_authorities_that_are_trusted_by_default_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "company.pem"
    bundle.touch()
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    found = field_of(tmp_path, "tls_ca", ZILLIZ_PROD_URI="https://db")
    assert found.value == f"the system's authorities {bundle}"


def test_what_is_a_part_of_the_uri_is_said_to_be_from_there(tmp_path: Path) -> None:
    environ = {"ZILLIZ_PROD_URI": f"https://root:{SECRET}@db/sales"}
    found = {each.field: each for each in alias_of(tmp_path, **environ).fields}
    assert (found["db_name"].value, found["db_name"].part) == ("sales", "path")
    assert (found["user"].part, found["password"].part) == ("userinfo", "userinfo")
    assert {str(found[name].origin) for name in ("uri", "db_name", "user")} == {
        "ZILLIZ_PROD_URI (environment)"
    }
    assert (found["uri"].part, found["timeout"].part) == (None, None)
    told = draw(explanation_parts(connections_of(tmp_path, **environ).explain()))
    assert "sales\n                   from the path of ZILLIZ_PROD_URI (environment)" in told
    assert "from the userinfo of ZILLIZ_PROD_URI (environment)" in told
    assert "10.0 (not set)" in told
    beside = field_of(tmp_path, "db_name", ZILLIZ_PROD_DB_NAME="sales", **environ)
    assert (beside.part, str(beside.origin)) == (None, "ZILLIZ_PROD_DB_NAME (environment)")


def test_files_that_variables_name_are_among_those_looked_for(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text(SECRET)
    environ = {"ZILLIZ_PROD_URI": URI, "ZILLIZ_PROD_TOKEN_FILE": str(secret)}
    files = connections_of(tmp_path, **environ).explain().files
    assert (files[-1].path, files[-1].state) == (str(secret), "read")


@pytest.mark.parametrize("option", ["ZCONFIG_ENV_FILE", "ZCONFIG_SECRETS_DIR"])
def test_a_path_of_an_option_that_does_not_exist_is_listed_once(
    tmp_path: Path, option: str
) -> None:
    files = connections_of(tmp_path, **{"ZILLIZ_URI": URI, option: "missing"}).explain().files
    assert [each.state for each in files if each.path == "missing"] == ["absent"]
