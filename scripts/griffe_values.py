"""Tell the documentation's parser, griffe, that a `value` is a dataclass: it knows only its own."""

from __future__ import annotations

from typing import Any

import griffe

_DATACLASS = griffe.ExprName("dataclasses.dataclass")


class Values(griffe.Extension):
    """Read `@value` as `@dataclass`, so that the reference has the fields with their types."""

    def on_class_instance(self, *, cls: griffe.Class, **_: Any) -> None:
        """Replace the decorator of a class before griffe looks for dataclasses."""
        for decorator in cls.decorators:
            if decorator.callable_path != "zconfig._value.value":
                continue
            if isinstance(decorator.value, griffe.ExprCall):
                decorator.value.function = _DATACLASS
            else:
                decorator.value = _DATACLASS
