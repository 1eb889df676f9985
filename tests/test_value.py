"""`Value` has the methods that `dataclass` would generate for a frozen class."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from zconfig._value import Value


@dataclass(frozen=True)
class Generated:
    x: int
    secret: str = field(default="", repr=False)
    note: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Inherited(Value):
    x: int
    secret: str = field(default="", repr=False)
    note: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Sub(Inherited):
    pass


ARGUMENTS: tuple[tuple[Any, ...], ...] = ((1,), (2,), (1, "a"), (1, "", "n"), (1, "a", "n"))


@pytest.mark.parametrize("one", ARGUMENTS)
@pytest.mark.parametrize("other", ARGUMENTS)
def test_values_are_equal_where_generated_ones_are(
    one: tuple[Any, ...], other: tuple[Any, ...]
) -> None:
    are_equal = Generated(*one) == Generated(*other)
    assert (Inherited(*one) == Inherited(*other)) is are_equal
    assert (hash(Inherited(*one)) == hash(Inherited(*other))) is are_equal


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_it_is_shown_as_a_generated_one_is(arguments: tuple[Any, ...]) -> None:
    shown = repr(Generated(*arguments)).replace("Generated", "Inherited")
    assert repr(Inherited(*arguments)) == shown


def test_values_of_different_classes_are_not_equal() -> None:
    assert Inherited(1) != Sub(1)
    assert Inherited(1) != Generated(1)


def test_it_has_no_dictionary() -> None:
    assert not hasattr(Inherited(1), "__dict__")
