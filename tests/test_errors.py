"""What an error says survives wherever it is carried to."""

from __future__ import annotations

import pickle
import tomllib
from typing import Any

import pytest
from celery.app.base import Celery
from celery.backends.base import Backend

from tests.support.processes import REPOSITORY
from zconfig.errors import (
    _EXTRAS,
    AutoconnectError,
    ClosedError,
    ConfigurationError,
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
