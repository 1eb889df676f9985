"""The settings models that applications use: every connection that is configured, and one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings

from tests.support.processes import run_python
from zconfig import ConfigurationError, ConnectionSettings, ZillizSettings


def test_it_reads_what_the_connections_read(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.touch(mode=0o600)
    dotenv.write_text("ZILLIZ_EU_URI=http://eu\nZILLIZ_EU_TOKEN=a:b\nZILLIZ_EU_TIMEOUT=3\n")
    code = """
import zconfig
settings = zconfig.ZillizSettings()
for alias, each in settings.connections.items():
    print(alias, each.uri, each.timeout, each.token)
print(list(zconfig.connections) == list(settings.connections))
"""
    done = run_python(code, environ={"ZILLIZ_EU_TIMEOUT": "5"})
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["eu http://eu:19530 5.0 **********", "True"]


def test_what_is_given_in_code_stands_in_place_of_what_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ZILLIZ_URI", "http://read")
    monkeypatch.setenv("ZILLIZ_OTHER_URI", "ftp://wrong")
    given = ZillizSettings(connections={"default": {"uri": "http://given"}})
    assert given.connections["default"].uri.host == "given"
    monkeypatch.delenv("ZILLIZ_OTHER_URI")
    assert ZillizSettings().connections["default"].uri.host == "read"


def test_everything_that_is_wrong_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZILLIZ_A_URI", "ftp://a")
    monkeypatch.setenv("ZILLIZ_B_URI", "http://b")
    monkeypatch.setenv("ZILLIZ_B_TIMEOUT", "soon")
    with pytest.raises(ConfigurationError) as caught:
        ZillizSettings()
    assert [(each.alias, each.field) for each in caught.value.problems] == [
        ("a", "uri"),
        ("b", "timeout"),
    ]


def test_an_optional_alias_that_is_wrong_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZILLIZ_A_URI", "http://a")
    monkeypatch.setenv("ZILLIZ_B_URI", "ftp://b")
    monkeypatch.setenv("ZILLIZ_B_REQUIRED", "false")
    assert list(ZillizSettings().connections) == ["a"]


def test_secrets_are_shown_by_neither_repr_nor_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZILLIZ_URI", "http://db")
    monkeypatch.setenv("ZILLIZ_TOKEN", "S3cret-token")
    settings = ZillizSettings()
    shown = [repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())]
    assert not any("S3cret" in text for text in shown)
    told = json.loads(shown[2])["connections"]["default"]
    assert (told["uri"], told["token"]) == ("http://db:19530", "**********")
    assert settings.connections["default"].token
    assert settings.connections["default"].token.get_secret_value() == "S3cret-token"


def test_it_is_a_field_of_an_applications_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    class Application(BaseSettings):
        name: str = "shop"
        zilliz: ZillizSettings = Field(default_factory=ZillizSettings)

    monkeypatch.setenv("ZILLIZ_URI", "http://db")
    assert Application().zilliz.connections["default"].uri.host == "db"


def test_one_connection_is_validated_without_showing_its_input() -> None:
    with pytest.raises(ValidationError) as caught:
        ConnectionSettings(uri="http://db", token="S3cret\n")  # type: ignore[arg-type]
    assert "S3cret" not in str(caught.value)
