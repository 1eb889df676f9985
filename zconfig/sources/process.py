"""The one place where the environment of this process is taken from `os`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from zconfig.redaction import Hidden


class EnvironmentView(Mapping[str, str]):
    """An environment, read-only, of which no representation shows a value.

    Tracebacks with locals show `os.environ` whole. Some take the `repr` of a local, and some that
    of each value of a mapping: neither shows anything here.

    Args:
        variables: The environment, live.

    Example:
        >>> environ = EnvironmentView({"ZILLIZ_TOKEN": "s3cret"})
        >>> environ, dict(environ), environ["ZILLIZ_TOKEN"] == "s3cret"
        (<environment>, {'ZILLIZ_TOKEN': <hidden>}, True)
    """

    __slots__ = ("_variables",)

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def __getitem__(self, name: str) -> Hidden:
        return Hidden(self._variables[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def __repr__(self) -> str:
        return "<environment>"


def process_environment() -> EnvironmentView:
    """Return the environment of this process, live."""
    return EnvironmentView(os.environ)
