"""What an error says survives wherever it is carried to."""

from __future__ import annotations

import pickle
import re
import tomllib
from typing import Any

import pytest
from celery.app.base import Celery
from celery.backends.base import Backend

from tests.support.processes import REPOSITORY
from zconfig import errors
from zconfig.errors import (
    _EXTRAS,
    AutoconnectError,
    ClosedError,
    ConfigurationError,
    ConnectError,
    MissingExtraError,
    Problem,
    RefusedError,
    UnknownAliasError,
    ZConfigError,
)

PROBLEM = Problem("bad_port", "the port is no number", "correct it", alias="prod")
REFUSED = RefusedError("prod", endpoint="http://db:19530", origin="ZILLIZ_PROD_URI", attempts=3)
ERRORS = [
    REFUSED,
    ConfigurationError([PROBLEM]),
    UnknownAliasError([PROBLEM, PROBLEM]),
    AutoconnectError({"prod": REFUSED}, ["docs"]),
    ClosedError("prod"),
    MissingExtraError("pymilvus", "pymilvus"),
]


def below(base: type[ZConfigError]) -> set[type[ZConfigError]]:
    """Return the classes of the package below an error."""
    own = [each for each in base.__subclasses__() if each.__module__ == errors.__name__]
    return set(own).union(*map(below, own))


def test_the_tree_at_the_top_has_every_error_below_its_base() -> None:
    tree, _, _ = (errors.__doc__ or "").partition("\n\nEach")
    every, _, causes = tree.partition("ConnectError ")
    assert {f"{each.__name__} " for each in below(ZConfigError) - below(ConnectError)} == set(
        re.findall(r"── (\w+ )", f"{every}ConnectError ")
    )
    listed = dict(re.findall(r"── (\w+)(.*?)(?=──|$)", causes, re.DOTALL))
    direct = {each for each in below(ConnectError) if each.__base__ is ConnectError}
    assert {each.__name__ for each in direct} == set(listed)
    for each in direct:
        names = {f"{name}Error" for name in re.findall(r"[A-Z]\w+", listed[each.__name__])}
        assert names == {cause.__name__ for cause in below(each)}


@pytest.mark.parametrize("extra", _EXTRAS)
def test_what_an_extra_brings_is_named_as_it_is_declared(extra: str) -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["project"]["optional-dependencies"][extra]
    command = " ".join(f"'{each}'" for each in packages)
    told = f"x is not installed; run: pip install {command}"
    assert str(MissingExtraError("x", extra)) == told


@pytest.fixture(params=ERRORS, ids=lambda error: type(error).__name__)
def error(request: pytest.FixtureRequest) -> ZConfigError:
    return request.param


def test_a_pickle_says_the_same(error: ZConfigError) -> None:
    copy: Any = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.exit_code == error.exit_code


def test_its_whole_message_is_in_what_celery_makes_of_its_json(error: ZConfigError) -> None:
    backend = Backend(app=Celery(set_as_current=False))
    told = backend.exception_to_python(backend.prepare_exception(error, serializer="json"))
    assert str(error) in str(told).replace("\\n", "\n")


def test_its_whole_message_is_in_its_repr() -> None:
    assert str(REFUSED) in repr(REFUSED)
