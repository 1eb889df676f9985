"""The base of frozen dataclasses, which makes them cheap to create."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


class Value:
    """Equality, hash and `repr` by fields, as `dataclass` generates them for a frozen class.

    It generates and compiles each method for each class, which takes most of the time to create
    one, and `import zconfig` creates fifty. So they pass `eq=False, repr=False`.

    Examples:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True, slots=True, eq=False, repr=False)
        ... class Point(Value):
        ...     x: int
        ...     y: int
        >>> Point(1, 2), Point(1, 2) == Point(1, 2)
        (Point(x=1, y=2), True)
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return _compared(self) == _compared(other)

    def __hash__(self) -> int:
        return hash(_compared(self))

    def __repr__(self) -> str:
        shown = (each.name for each in fields(self) if each.repr)  # type: ignore[arg-type]
        pairs = (f"{name}={getattr(self, name)!r}" for name in shown)
        return f"{type(self).__qualname__}({', '.join(pairs)})"


def _compared(value: Any) -> tuple[Any, ...]:
    return tuple(getattr(value, each.name) for each in fields(value) if each.compare)
