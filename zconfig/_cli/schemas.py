"""Convert the dataclasses of results to JSON values, and derive the JSON Schema of these.

The keys of an object are the properties that the docstring of its class lists, and the fields. The
docstring has the description of each key. The function in a field's metadata `json` converts its
value. Keys are added, but never removed, so consumers should ignore unknown keys.
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
    """Return a value as JSON types."""
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
    """Return the JSON Schema of the values that `json_value` returns for a type.

    Args:
        kind: A dataclass, or the type of one of its fields.

    Examples:
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
    """Return the schema of a union whose last member is null."""
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
    """Return the descriptions of all names in the docstrings of a class and its bases."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__[:-1]):
        entries = _ENTRY.findall(inspect.cleandoc(each.__doc__ or ""))
        found |= {name: " ".join(text.split()).replace("`None`", "null") for name, text in entries}
    return found
