"""A `value` has the methods that `dataclass` would generate for a frozen class."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, replace
from typing import Any

import pytest

from zconfig._value import Value, value


@dataclass(frozen=True)
class Generated:
    x: int
    secret: str = field(default="", repr=False)
    note: str = field(default="", compare=False)


@value
class Inherited(Value):
    x: int
    secret: str = field(default="", repr=False)
    note: str = field(default="", compare=False)


@value
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


@pytest.mark.parametrize("name", ["x", "secret", "__doc__"])
@pytest.mark.parametrize("cls", [Generated, Inherited, Sub])
def test_a_field_cannot_be_assigned_or_deleted(cls: type[Any], name: str) -> None:
    instance = cls(1)
    with pytest.raises(FrozenInstanceError, match=f"^cannot assign to field '{name}'$"):
        setattr(instance, name, 2)
    with pytest.raises(FrozenInstanceError, match=f"^cannot delete field '{name}'$"):
        delattr(instance, name)
    assert instance == cls(1)


@pytest.mark.parametrize("cls", [Generated, Inherited])
def test_an_attribute_that_is_no_field_cannot_be_assigned(cls: type[Any]) -> None:
    with pytest.raises(AttributeError):
        cls(1).y = 2


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("cls", [Generated, Inherited, Sub])
def test_a_pickle_has_all_fields_and_is_frozen(cls: type[Any], protocol: int) -> None:
    copied = pickle.loads(pickle.dumps(cls(1, "a", "n"), protocol))  # noqa: S301 - its own
    assert (copied, copied.note) == (cls(1, "a", "n"), "n")
    with pytest.raises(FrozenInstanceError):
        copied.x = 2


@pytest.mark.parametrize("cls", [Generated, Inherited, Sub])
def test_a_copy_has_all_fields(cls: type[Any]) -> None:
    one = cls(1, "a", "n")
    assert copy.copy(one) == copy.deepcopy(one) == replace(one) == one
    assert copy.deepcopy(one).note == "n"
    assert replace(one, x=2) == cls(2, "a", "n")


def test_fields_are_given_by_name_where_the_class_says_so() -> None:
    @value(kw_only=True)
    class Named(Value):
        x: int

    assert Named(x=1).x == 1
    with pytest.raises(TypeError):
        Named(1)  # type: ignore[call-arg, misc]
