"""Mask secrets in an application's own logs, with structlog or the standard library.

zconfig's own messages contain no secret. But an application may log one: in a URL with a password,
in the headers of a call, or in the text of another library's exception.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from contextlib import suppress
from copy import copy
from datetime import date, time, timedelta
from enum import Enum
from numbers import Number
from pathlib import PurePath
from typing import Any
from uuid import UUID

from zconfig._redaction import Masker

Mask = Callable[[str], str]
"""Returns a masked text; the same object if it contains no secret."""

Show = Callable[[Any, Mask], Any]
"""Returns the masked form of an object."""


class MaskingProcessor:
    """Masks secrets in structlog's events: in texts at any depth, in keys, in exceptions.

    Put it last, before the renderer. Texts, numbers, dates, paths and collections keep their type.
    Other objects become text, since a renderer such as `orjson` reads their attributes. The record
    that structlog's `ProcessorFormatter` adds becomes a masked copy. An exception becomes its
    traceback as text, since a later renderer might show local variables. Do not use a processor
    that shows local variables before this one, as `dict_tracebacks` does: it truncates them, and a
    part of a secret is not recognised.

    Args:
        masker: Masks the configured secrets.

    Examples:
        >>> mask_secrets = MaskingProcessor(Masker(lambda: ["s3cr&t-key"]))
        >>> mask_secrets(None, "info", {"event": "call", "headers": {"token": "s3cr&t-key"}})
        {'event': 'call', 'headers': {'token': '********'}}
    """

    def __init__(self, masker: Masker) -> None:
        self._masker = masker

    def __call__(
        self, _logger: Any, _name: str, event_dict: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Return an event with its secrets masked; the same object if it has none."""
        mask = self._masker.current()
        with suppress(Exception):  # an event must not be lost
            error = _exception(event_dict.get("exc_info"))
            if error:
                event_dict["exc_info"] = MaskedTraceback(mask(_rendered(error)))
        above = (id(event_dict),)
        masked: MutableMapping[str, Any] = _masked_inside(event_dict, mask, above, _as_text)
        return masked


# The attributes of every record that contain no text of the application. Any other attribute was
# passed as `extra`, is rendered text, or is a name that the application chose.
_OWN = frozenset(vars(logging.makeLogRecord({}))) - {
    *("args", "exc_text", "name", "processName", "stack_info", "taskName", "threadName")
}


class MaskingFilter(logging.Filter):
    """Masks secrets in the records of the standard library's logging, and drops no record.

    Attach it to handlers: the filter of a logger does not receive the records of child loggers. An
    exception whose traceback contains a secret is replaced by the masked traceback as text. Any
    other exception is left to the handler. So a handler must not show local variables, as rich's
    does with `tracebacks_show_locals=True`, nor read the attributes of objects passed as `extra`.

    Args:
        masker: Masks the configured secrets.

    Examples:
        >>> handler = logging.StreamHandler()
        >>> handler.addFilter(MaskingFilter(Masker(lambda: ["s3cr&t-key"])))
    """

    def __init__(self, masker: Masker) -> None:
        super().__init__()
        self._masker = masker

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the secrets in a record; a record without secrets stays as it is."""
        _mask_record(record, self._masker.current())
        return True


def _mask_record(record: logging.LogRecord, mask: Mask) -> None:
    for mask_part in (_mask_attributes, _mask_exception, _mask_message):
        with suppress(Exception):  # a record must not be lost
            mask_part(record, mask)


def _mask_attributes(record: logging.LogRecord, mask: Mask) -> None:
    """Mask each argument, the texts that are rendered already, and the objects in `extra`."""
    for name in vars(record).keys() - _OWN:
        _mask_attribute(record, name, mask)


def _mask_attribute(record: logging.LogRecord, name: str, mask: Mask) -> None:
    value = getattr(record, name)
    masked = _masked(value, mask)
    if masked is not value:
        setattr(record, name, masked)


def _mask_exception(record: logging.LogRecord, mask: Mask) -> None:
    error = _exception(record.exc_info)
    rendered = _rendered(error) if error else ""
    masked = mask(rendered)
    if masked is not rendered:
        # Some formatters take the text, others render the exception themselves.
        record.exc_text = record.exc_text or masked
        record.exc_info = (MaskedTraceback, MaskedTraceback(masked), None)


def _mask_message(record: logging.LogRecord, mask: Mask) -> None:
    """Mask the message. Its arguments are masked already."""
    if not isinstance(record.msg, str):  # an exception, or an event of structlog
        _mask_attribute(record, "msg", mask)
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 - logging shows the parts of a malformed message
        _mask_attribute(record, "msg", mask)
        return
    masked = mask(message)
    if masked is not message:
        record.msg, record.args = masked, ()


class MaskedTraceback(Exception):  # noqa: N818 - it is the text of an error, not one
    """Replaces an exception in a log. Its text is the masked traceback of that exception."""


# --- the values of an event ----------------------------------------------------------------

# Exactly these types: the text of a subclass may be anything.
_LEFT = frozenset({bool, int, float, complex, type(None)})
_KNOWN = _LEFT | {bytes, dict, list, tuple, set, frozenset, logging.LogRecord}
# Passed to the renderer unchanged: these have no attributes beyond their text.
_VALUES = (Number, date, time, timedelta, Enum, UUID, PurePath, MaskedTraceback)
_DEEPEST = 20


def _masked_text(value: Any, mask: Mask) -> Any:
    """Return the masked text of an object if it shows a secret, or else the object."""
    for text in (repr(value), str(value)):
        masked = mask(text)
        if masked is not text:
            return masked
    return value


def _as_text(value: Any, mask: Mask) -> Any:
    """Return the text of an object whose attributes a renderer might read."""
    if isinstance(value, _VALUES):
        return _masked_text(value, mask)
    with suppress(Exception):  # the `repr` of an application's object may raise
        masked = _masked_text(value, mask)
        return repr(value) if masked is value else masked
    return object.__repr__(value)


def _masked(value: Any, mask: Mask, above: tuple[int, ...] = (), show: Show = _masked_text) -> Any:
    """Return a value with its secrets masked; the same object if it has none.

    Args:
        value: Any value; `show` masks one that is neither text nor a collection.
        mask: Masks a text.
        above: The identities of the collections that contain the value.
        show: Returns the masked form of an object that is neither text nor a collection.
    """
    if type(value) is str:
        return mask(value)
    if type(value) in _LEFT:
        return value
    if id(value) not in above and len(above) < _DEEPEST:
        with suppress(Exception):  # copying an application's collection may raise
            masked = _masked_inside(value, mask, (*above, id(value)), show)
            is_shown = masked is value and type(value) not in _KNOWN
            return _masked_text(value, mask) if is_shown else masked
    with suppress(Exception):  # and so may its `repr`
        return show(value, mask)
    return value


def _masked_inside(value: Any, mask: Mask, above: tuple[int, ...], show: Show) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, logging.LogRecord):
        return _masked_record(value, mask)
    if isinstance(value, bytes):
        text = value.decode("utf-8", "surrogateescape")
        masked = mask(text)
        return value if masked is text else masked.encode("utf-8", "surrogateescape")
    if isinstance(value, Mapping):
        items = [part for pair in value.items() for part in pair]
        parts = [_masked(item, mask, above, show) for item in items]
        return value if _same(items, parts) else dict(zip(parts[::2], parts[1::2], strict=True))
    if isinstance(value, list | tuple | set | frozenset):
        items = list(value)
        parts = [_masked(item, mask, above, show) for item in items]
        make = getattr(value, "_make", type(value))  # named tuples have one
        return value if _same(items, parts) else make(parts)
    return show(value, mask)


def _masked_record(record: logging.LogRecord, mask: Mask) -> logging.LogRecord:
    masked = copy(record)  # other handlers may receive the original
    _mask_record(masked, mask)
    return record if _same(vars(record).values(), vars(masked).values()) else masked


def _same(one: Iterable[Any], other: Iterable[Any]) -> bool:
    return all(a is b for a, b in zip(one, other, strict=True))


def _exception(exc_info: Any) -> BaseException | None:
    """Return the exception of an `exc_info`; `True` is the exception being handled."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return next((each for each in exc_info if isinstance(each, BaseException)), None)
    return sys.exc_info()[1] if exc_info else None


def _rendered(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip("\n")
