"""The settings models that applications use: every connection that is configured, and one."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog
from pydantic import (
    AnyUrl,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from tests.support.processes import run_python
from zconfig import ConfigurationError, ConnectionSettings, ZillizSettings
from zconfig._settings.load import load


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
    assert given.connections["default"].uri == "http://given:19530"
    monkeypatch.delenv("ZILLIZ_OTHER_URI")
    assert ZillizSettings().connections["default"].uri == "http://read:19530"


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
    assert Application().zilliz.connections["default"].uri == "http://db:19530"


def test_one_connection_is_validated_without_showing_its_input() -> None:
    with pytest.raises(ValidationError) as caught:
        ConnectionSettings.model_validate({"uri": "http://db", "token": "S3cret\n"})
    assert "S3cret" not in str(caught.value)


# --- a model of the application's own ---------------------------------------------------------

SECRET = "S3cret-t0ken"


class Shop(BaseSettings):
    """An application's settings, with pydantic's own ways of showing what is wrong."""

    model_config = SettingsConfigDict(env_prefix="SHOP_", env_nested_delimiter="__")

    milvus: ConnectionSettings
    spare: ConnectionSettings | None = None
    more: list[ConnectionSettings] = []
    by_name: dict[str, ConnectionSettings] = {}


def test_a_field_of_an_application_is_filled_by_its_own_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHOP_MILVUS__URI", "https://db.example/sales")
    monkeypatch.setenv("SHOP_MILVUS__TOKEN", SECRET)
    monkeypatch.setenv("SHOP_SPARE", '{"uri": "http://spare", "timeout": 3}')
    shop = Shop()
    assert shop.milvus.uri == "https://db.example:443/sales"
    assert shop.milvus.token is not None
    assert shop.milvus.token.get_secret_value() == SECRET
    assert shop.spare == ConnectionSettings(uri="http://spare", timeout=3)


class Milvus(ConnectionSettings, BaseSettings):
    """A subclass, with variables of its own."""

    model_config = SettingsConfigDict(env_prefix="SHOP_MILVUS_", extra="ignore")

    collection: str = "goods"


def test_a_subclass_reads_the_variables_of_its_own_prefix(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("SHOP_MILVUS_URI=http://db\nSHOP_MILVUS_TIMEOUT=3\nOTHER=1\n")
    monkeypatch.setenv("SHOP_MILVUS_USER", "root")
    monkeypatch.setenv("SHOP_MILVUS_PASSWORD", SECRET)
    monkeypatch.setenv("SHOP_MILVUS_COLLECTION", "books")
    settings = Milvus(_env_file=tmp_path / ".env")  # type: ignore[call-arg]
    assert (settings.uri, settings.timeout, settings.user) == ("http://db:19530", 3, "root")
    assert settings.collection == "books"


@pytest.mark.parametrize("extra", ["forbid", "ignore"])
def test_a_shared_dotenv_file_needs_a_model_that_ignores_others(
    tmp_path: Path, extra: Literal["forbid", "ignore"]
) -> None:
    class Settings(BaseSettings):
        model_config = SettingsConfigDict(
            env_prefix="SHOP_", env_nested_delimiter="__", env_file=tmp_path / ".env", extra=extra
        )
        milvus: ConnectionSettings

    (tmp_path / ".env").write_text(f"ZILLIZ_URI=./x.db\nSHOP_MILVUS__URI=./{extra}.db\n")
    if extra == "ignore":
        assert Settings().milvus.uri == "./ignore.db"  # type: ignore[call-arg]
    else:
        with pytest.raises(ValidationError, match="zilliz_uri\n  Extra inputs are not permitted"):
            Settings()  # type: ignore[call-arg]
    assert list(load({}, tmp_path, system_secrets=str(tmp_path)).aliases) == ["default"]


FAULTS: list[tuple[Any, tuple[str | int, ...]]] = [
    ({"milvus": {"uri": f"ftp://root:{SECRET}@db"}}, ("milvus", "uri")),
    ({"milvus": {"uri": f"http://root:{SECRET}/@db"}}, ("milvus", "uri")),
    ({"milvus": {"uri": f"http://root:{SECRET}@db", "token": "x"}}, ("milvus", "uri")),
    ({"milvus": {"uri": "http://db", "token": f"{SECRET}\n"}}, ("milvus", "token")),
    ({"milvus": {"uri": "http://db", "token": [SECRET]}}, ("milvus", "token")),
    ({"milvus": {"uri": "http://db", "token": "x", "password": SECRET}}, ("milvus", "password")),
    ({"milvus": {"uri": "http://db", "password": SECRET}}, ("milvus", "password")),
    ({"milvus": {"uri": "http://db", "user": f"root:{SECRET}"}}, ("milvus", "user")),
    ({"milvus": {"uri": "http://db", "timeout": SECRET}}, ("milvus", "timeout")),
    ({"milvus": {"uri": "http://db", "proxy": f"socks://x:{SECRET}@p"}}, ("milvus", "proxy")),
    ({"milvus": {"uri": "https://db", "tls_ca": f"-----{SECRET}"}}, ("milvus", "tls_ca")),
    ({"milvus": {"uri": "http://db", "tls_ca": SECRET}}, ("milvus", "tls_ca")),
    ({"milvus": {"uri": "http://db", "passwort": SECRET}}, ("milvus", "passwort")),
    ({"milvus": {"token": SECRET}}, ("milvus", "uri")),
    ({"milvus": {"uri": SECRET.encode()}}, ("milvus", "uri")),
    ({"milvus": SECRET}, ("milvus",)),
    ({"milvus": [SECRET]}, ("milvus",)),
    ({"spare": {"token": SECRET}}, ("spare", "uri")),
    ({"more": [{"uri": "http://db"}, {"token": SECRET}]}, ("more", 1, "uri")),
    ({"more": [SECRET]}, ("more", 0)),
    ({"by_name": {"eu": {"token": SECRET}}}, ("by_name", "eu", "uri")),
]


@pytest.mark.parametrize(("given", "loc"), FAULTS)
def test_an_error_names_the_field_of_the_application_and_shows_no_input(
    given: dict[str, Any], loc: tuple[str | int, ...]
) -> None:
    with pytest.raises(ValidationError) as caught:
        Shop(**{"milvus": {"uri": "http://db"}, **given})
    error = caught.value
    assert [each["loc"] for each in error.errors()] == [loc]
    shown = [str(error), repr(error), str(error.errors()), error.json()]
    shown += traceback.format_exception(error)
    assert not any(SECRET in text for text in shown)


@pytest.mark.parametrize(("given", "loc"), FAULTS)
def test_a_model_in_json_shows_no_input_either(
    given: dict[str, Any], loc: tuple[str | int, ...]
) -> None:
    text = json.dumps({"milvus": {"uri": "http://db"}, **given}, default=str)
    with pytest.raises(ValidationError) as caught:
        Shop.model_validate_json(text)
    assert SECRET not in f"{caught.value}{caught.value.errors()}"


def test_json_that_ends_early_is_not_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        ConnectionSettings.model_validate_json(f'{{"token": "{SECRET}"')
    assert SECRET not in f"{caught.value}{caught.value.errors()}{caught.value.json()}"


def test_a_secret_that_json_hides_is_not_taken_back_as_one() -> None:
    settings = ConnectionSettings.model_validate({"uri": "http://db", "token": SECRET})
    with pytest.raises(ValidationError, match="token\n  contains only asterisks"):
        ConnectionSettings.model_validate_json(settings.model_dump_json())


def test_a_value_that_is_assigned_is_refused_and_not_shown() -> None:
    settings = ConnectionSettings(uri="http://db")
    with pytest.raises(ValidationError, match="frozen") as caught:
        settings.token = SECRET  # type: ignore[assignment,misc]
    assert SECRET not in f"{caught.value}{caught.value.errors()}{caught.value.json()}"
    assert caught.value.__context__ is None


def test_an_error_of_our_own_names_fields_and_says_what_to_do() -> None:
    with pytest.raises(ValidationError) as caught:
        Shop(milvus={"uri": "http://db", "tls_ca": "ca.pem"})
    [told] = caught.value.errors(include_url=False)
    assert told["msg"] == "is set, but uri is not https://; use https:// in uri, or remove tls_ca"
    assert "{" not in str(told["ctx"].values())


def test_a_check_of_a_subclass_is_told_as_pydantic_tells_it() -> None:
    class Checked(ConnectionSettings):
        @field_validator("uri", mode="after")
        @classmethod
        def _has_tls(cls, value: str) -> str:
            if not value.startswith("https://"):
                raise ValueError("has no TLS")
            return value

        @field_validator("db_name", mode="after")
        @classmethod
        def _is_ours(cls, value: str) -> str:
            raise PydanticCustomError("not_ours", "{name} is not ours", {"name": value})

    with pytest.raises(ValidationError) as caught:
        Checked(uri="http://db", db_name="sales")
    found = [(each["type"], each["msg"], each["input"]) for each in caught.value.errors()]
    assert found == [
        ("value_error", "Value error, has no TLS", "********"),
        ("not_ours", "sales is not ours", "********"),
    ]


class Quick(ConnectionSettings):
    """A model with a check of all fields."""

    others: tuple[Quick, ...] = ()

    @model_validator(mode="after")
    def _is_quick(self) -> Quick:
        if self.timeout > 5:
            raise ValueError("is too slow")
        return self


def test_a_check_of_a_whole_subclass_shows_no_input() -> None:
    class Application(Shop):
        milvus: Quick
        more: list[Quick] = []

    slow = {"uri": "http://db", "token": SECRET, "timeout": 9}
    quick = {**slow, "timeout": 3}
    for given in ({"milvus": slow}, {"more": [slow]}, {"milvus": {**quick, "others": [slow]}}):
        with pytest.raises(ValidationError, match="is too slow") as caught:
            Application(**{"milvus": quick, **given})
        assert SECRET not in f"{caught.value}{caught.value.errors()}{caught.value.json()}"


@pytest.mark.parametrize(
    "given",
    [
        {"token": SECRET},
        {"connections": SECRET},
        {"connections": [("eu", SECRET)]},
        {"connections": {"eu": {"uri": "http://db"}}, "extra": SECRET},
    ],
)
def test_an_error_of_all_connections_shows_no_input(given: dict[str, Any]) -> None:
    class Application(BaseSettings):
        zilliz: ZillizSettings

    for call in (
        lambda: ZillizSettings(**given),
        lambda: ZillizSettings.model_validate_json(json.dumps(given)),
        lambda: ZillizSettings.model_validate_json(json.dumps(given)[:-1]),
        lambda: Application(zilliz=given),
        lambda: setattr(ZillizSettings(connections={}), "connections", given),
    ):
        with pytest.raises(ValidationError) as caught:
            call()
        error = caught.value
        assert SECRET not in f"{error}{error.errors()}{error.json()}"


class Open(ConnectionSettings):
    """A model that can be changed."""

    model_config = ConfigDict(frozen=False)


def assigned(**values: Any) -> Open:
    model = Open(uri="http://db")
    for name, each in values.items():
        setattr(model, name, each)
    return model


@pytest.mark.parametrize(
    "make",
    [
        lambda **each: ConnectionSettings.model_construct(**{"uri": "http://db", **each}),
        lambda **each: ConnectionSettings(uri="http://x").model_copy(update=each),
        assigned,
    ],
)
@pytest.mark.parametrize("kind", [str, SecretStr])
def test_a_secret_that_was_not_validated_is_hidden(make: Any, kind: Any) -> None:
    proxy = kind(f"http://x:{SECRET}@proxy:1")
    for model in (make(token=kind(SECRET)), make(user="a", password=kind(SECRET), proxy=proxy)):
        dumped = [model.model_dump_json(), str(model.model_dump()), str(vars(model))]
        dumped += [json.dumps(vars(model), default=lambda each: getattr(each, "__dict__", "?"))]
        assert SECRET not in f"{model!r}{dumped}"
        connection = ConnectionSettings.model_validate(model.model_dump())
        assert SECRET in {
            each and each.get_secret_value() for each in (connection.token, connection.password)
        }


def test_credentials_of_a_uri_that_was_not_validated_are_hidden() -> None:
    uri = f"http://root:{SECRET}@db"
    old = ConnectionSettings(uri="http://x", token="old")  # type: ignore[arg-type]
    for model in (ConnectionSettings.model_construct(uri=uri), old.model_copy(update={"uri": uri})):
        assert SECRET not in f"{model!r}{model.model_dump_json()}{vars(model)}"
        assert model.password is not None
        assert (model.user, model.password.get_secret_value()) == ("root", SECRET)
        assert model.token is None
    assert SECRET not in repr(old.model_copy(update={"uri": f"http://root:{SECRET}/@db"}))


# --- one connection -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "token", "user", "password"),
    [
        ({"uri": "http://root:p%40ss@db"}, None, "root", "p@ss"),
        ({"uri": AnyUrl("http://root:p%40ss@db")}, None, "root", "p@ss"),
        ({"uri": SecretStr("http://root:p%40ss@db")}, None, "root", "p@ss"),
        ({"uri": "http://key@db"}, "key", None, None),
        ({"uri": "http://root@db", "password": "pass"}, None, "root", "pass"),
        ({"uri": "http://key@db", "token": "", "user": None}, "key", None, None),
    ],
)
def test_credentials_in_the_uri_are_in_force(
    given: dict[str, Any], token: str | None, user: str | None, password: str | None
) -> None:
    found = ConnectionSettings.model_validate(given)
    values = (each and each.get_secret_value() for each in (found.token, found.password))
    assert (found.uri, found.user, *values) == ("http://db:19530", user, token or None, password)


def test_a_uri_is_text_for_a_reader_a_dump_json_and_a_schema() -> None:
    settings = ConnectionSettings(uri="HTTPS://key@DB.example/sales")
    dumps = (settings.model_dump(), settings.model_dump(mode="json"))
    uris = (settings.uri, *(each["uri"] for each in dumps))
    assert set(map(type, uris)) == {str}
    assert set(uris) == {"https://db.example:443/sales"}
    assert json.loads(settings.model_dump_json())["uri"] == settings.uri
    for mode in ("validation", "serialization"):
        schema = ConnectionSettings.model_json_schema(mode=mode)
        assert schema["properties"]["uri"]["type"] == "string"
    assert ConnectionSettings.model_validate(settings.model_dump()) == settings


def test_nothing_that_shows_a_model_shows_a_secret(capsys: pytest.CaptureFixture[str]) -> None:
    one = {
        "uri": "http://db",
        "user": "root",
        "password": SECRET,
        "proxy": f"http://x:{SECRET}@proxy:1",
    }
    settings = ConnectionSettings.model_validate(one)
    shop = Shop(milvus=settings, spare=one, more=[one], by_name={"eu": one})
    for model in (settings, copy.copy(settings), copy.deepcopy(settings), shop):
        structlog.PrintLogger().info(structlog.processors.JSONRenderer()(None, "", {"it": model}))
        shown = [repr(model), str(model), model.model_dump_json(), str(model.model_dump())]
        shown += [
            json.dumps(model, default=lambda each: getattr(each, "__dict__", "?")),
            str(model.model_dump(mode="json")),
            str(vars(model)),
            str(dict(model)),
        ]
        shown += [json.dumps(model.model_dump(), default=str)]
        shown += [TypeAdapter(Any).dump_json(model).decode(), capsys.readouterr().out]
        assert not any(SECRET in text for text in shown)
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(model)
