"""Frozen dataclasses that are cheap to create."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, FrozenInstanceError, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, dataclass_transform, overload

T = TypeVar("T")


class Value:
    """The base of a `value`: the methods that `dataclass` generates for a frozen class.

    It generates and compiles each method for each class, which takes most of the time to create
    one, and a connected alias needs fifty. For a `value` it generates `__init__` alone.
    """

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    if not TYPE_CHECKING:  # with these, a type checker would accept any name

        def __setattr__(self, name: str, value: object) -> None:
            if hasattr(self, name):  # `__init__` sets each field once
                raise FrozenInstanceError(f"cannot assign to field {name!r}")
            object.__setattr__(self, name, value)

        def __delattr__(self, name: str) -> None:
            raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __getstate__(self) -> list[Any]:
        return [getattr(self, each.name) for each in fields(self)]

    def __setstate__(self, state: list[Any]) -> None:
        for each, value in zip(fields(self), state, strict=True):
            object.__setattr__(self, each.name, value)

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return _compared(self) == _compared(other)

    def __hash__(self) -> int:
        return hash(_compared(self))

    def __repr__(self) -> str:
        shown = (each.name for each in fields(self) if each.repr)
        pairs = (f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{type(self).__qualname__}({', '.join(pairs)})"


def _compared(value: Value) -> tuple[Any, ...]:
    return tuple(getattr(value, each.name) for each in fields(value) if each.compare)


@overload
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def value(cls: type[T], /) -> type[T]: ...


@overload
def value(*, kw_only: bool) -> Callable[[type[T]], type[T]]: ...


def value(cls: Any = None, /, *, kw_only: bool = False) -> Any:
    """Make a subclass of `Value` a frozen dataclass with slots.

    Examples:
        >>> @value
        ... class Point(Value):
        ...     x: int
        ...     y: int
        >>> Point(1, 2), Point(1, 2) == Point(1, 2)
        (Point(x=1, y=2), True)
    """
    return dataclass(cls, slots=True, eq=False, repr=False, kw_only=kw_only)
