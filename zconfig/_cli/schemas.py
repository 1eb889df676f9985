"""Results → JSON's own types, and the JSON Schema of that, both from the results' dataclasses.

The keys of an object are the properties that the docstring of its class lists, and the fields; each
is described by that docstring. A field whose metadata has `json` is written as that function
returns it. Keys are only ever added, so that a consumer should pass over what it does not know.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from datetime import datetime
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Schema = dict[str, Any]

_ENTRY = re.compile(r"^    (\w+): (.+(?:\n {8}.*)*)", re.MULTILINE)
_SCALARS: Mapping[Any, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer", "minimum": 0},
    float: {"type": "number", "minimum": 0},
    datetime: {"type": "string", "format": "date-time"},
    NoneType: {"type": "null"},
}


def json_value(value: Any) -> Any:
    """Return a value in JSON's own types."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: json_value(read(value)) for name, _, read in _keys(type(value))}
    if isinstance(value, Mapping):
        return {name: json_value(each) for name, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [json_value(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, float):
        return round(value, 3)
    return value.value if isinstance(value, Enum) else value


def json_schema_of(kind: Any) -> Schema:
    """Return the JSON Schema of what `json_value` returns for a value of a type.

    Args:
        kind: A dataclass, or the type of one of its fields.

    Example:
        >>> json_schema_of(str | None)
        {'type': ['string', 'null']}
    """
    if kind in _SCALARS or is_dataclass(kind):
        return _object(kind) if is_dataclass(kind) else dict(_SCALARS[kind])
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {Union, UnionType}:
        return _either([json_schema_of(each) for each in arguments])
    if origin is tuple:
        return {"type": "array", "items": json_schema_of(arguments[0])}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": json_schema_of(arguments[1])}
    values = arguments if origin is Literal else [each.value for each in kind]
    return {"type": json_schema_of(type(values[0]))["type"], "enum": list(values)}


def _object(kind: Any) -> Schema:
    described = _descriptions(kind)
    properties = {
        name: {**json_schema_of(each), "description": described[name]}
        for name, each, _ in _keys(kind)
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


def _either(schemas: list[Schema]) -> Schema:
    """Return the schema of what fits one of others, of which the last is null."""
    first, *_ = schemas
    if "properties" in first or "enum" in first:
        return {"anyOf": schemas}
    return {**first, "type": [each["type"] for each in schemas]}


def _keys(kind: Any) -> Iterator[tuple[str, Any, Callable[[Any], Any]]]:
    """Yield the name, the type and the getter of each key of an object."""
    for name in _descriptions(kind):
        if isinstance(attribute := inspect.getattr_static(kind, name, None), property):
            yield name, get_type_hints(attribute.fget)["return"], attribute.__get__
    hints = get_type_hints(kind)
    for field in fields(kind):
        form = field.metadata.get("json")
        yield field.name, get_type_hints(form)["return"] if form else hints[field.name], _of(field)


def _of(field: Field[Any]) -> Callable[[Any], Any]:
    form = field.metadata.get("json", lambda value: value)
    return lambda value: form(getattr(value, field.name))


def _descriptions(kind: type) -> dict[str, str]:
    """Return what the docstrings of a class and its bases say of each name."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__[:-1]):
        entries = _ENTRY.findall(inspect.cleandoc(each.__doc__ or ""))
        found |= {name: " ".join(text.split()).replace("`None`", "null") for name, text in entries}
    return found
