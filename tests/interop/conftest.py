"""Other people's packages: what is not installed here is not collected; noxfile.py installs it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from uuid import uuid4

import pytest

import zconfig
from tests.support.servers import CREDENTIALS

_NEEDS = {
    "test_pymilvus.py": "pymilvus",
    "test_pymilvus_clients.py": "pymilvus",
    "test_langchain.py": "langchain_milvus",
    "test_llamaindex.py": "llama_index",
    "test_haystack.py": "milvus_haystack",
}
collect_ignore = [name for name, package in _NEEDS.items() if find_spec(package) is None]


SERVER = pytest.param("server", marks=pytest.mark.server)


@pytest.fixture(params=["lite", SERVER])
def place(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Return the URI and the credentials of Milvus Lite, or of the real server."""
    return place_of(request)


def place_of(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Return the URI and the credentials of the kind of server that is the parameter."""
    if request.param == "lite":
        return request.getfixturevalue("lite_uri"), ""
    return request.getfixturevalue("milvus").uri, CREDENTIALS


@pytest.fixture
def docs(place: tuple[str, str]) -> Iterator[str]:
    """Have an alias of zconfig's that leads there."""
    uri, token = place
    with zconfig.connections.override({"docs": {"uri": uri, "token": token}}):
        yield "docs"


@pytest.fixture
def name() -> str:
    """Return the name of a collection of this test's own."""
    return f"c_{uuid4().hex[:12]}"
