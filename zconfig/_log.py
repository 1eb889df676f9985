"""Log lifecycle events through the application's structlog or logging configuration.

If the application configured structlog, events use its processors and its output. Otherwise they
go to the standard library's logger `zconfig`, which is silent until it has a handler. structlog's
default configuration is not used: it prints to standard output, among the results of a program.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from zconfig._settings.options import LoaderOptions
    from zconfig.events import Event, Hook

LOGGER = "zconfig"
Format = Literal["json", "console", "none"]
_FORMATS: tuple[Format, ...] = ("json", "console", "none")
_LEVELS = ("debug", "info", "warning", "error")
_NUMBERS = {level: logging.getLevelNamesMapping()[level.upper()] for level in _LEVELS}
T = TypeVar("T")
_DIGITS = 3


def log_event(event: Event) -> None:
    """Write one event to the application's log."""
    if _has_structlog():
        import structlog

        if isinstance(structlog.get_config()["logger_factory"], structlog.stdlib.LoggerFactory):
            _logger()
        getattr(structlog.get_logger(LOGGER), event.level)(event.name, **_shown(event))
        return
    logger, level = _logger(), _NUMBERS[event.level]
    if logger.isEnabledFor(level):
        fields = _shown(event)
        pairs = (f"{name}={value!r}" for name, value in fields.items())
        text = " ".join((event.name, *pairs))
        logger.log(level, "%s", text, extra={**fields, "_zconfig_event": event})


def _has_structlog() -> bool:
    """Return whether the application imported and configured structlog."""
    if "structlog" not in sys.modules:
        return False
    import structlog

    return structlog.is_configured()


def _logger() -> logging.Logger:
    """Return the standard library's logger, and enable it if `configure_logging` was called.

    By default `logging.config` disables existing loggers that it does not name. So the first event
    creates the logger, not the import.
    """
    logger = logging.getLogger(LOGGER)
    if not logger.handlers:  # the standard library prints warnings of a logger without handlers
        logger.addHandler(logging.NullHandler())
    if logger.disabled and any(isinstance(each, _StderrHandler) for each in logger.handlers):
        logger.disabled = False
    if logger.disabled:
        text = "the logger zconfig is disabled, and lifecycle events are not logged"
        warnings.warn(
            f"{text}: pass disable_existing_loggers=False to logging.config",
            RuntimeWarning,
            stacklevel=2,
        )
    return logger


def log_as_configured(options: Callable[[], LoaderOptions]) -> Hook:
    """Return a hook that logs events, and applies `ZCONFIG_LOG_FORMAT` on the first one.

    It applies it on the first event because an import should not configure logging.

    Args:
        options: Returns the loader's options.
    """
    undecided = [True]

    def hook(event: Event) -> None:
        if undecided:
            undecided.clear()
            chosen = options()
            if chosen.log_format and not _has_structlog():
                configure_logging(chosen.log_format, chosen.log_level)
        log_event(event)

    return hook


def configure_logging(format: Format = "console", level: str = "info") -> None:  # noqa: A002 - it reads best in a call
    """Write the lifecycle events to standard error.

    For programs that do not configure logging themselves. It adds a handler to the logger
    `zconfig` and changes no other logger. Another call replaces the handler.

    Args:
        format: `json` for one object per line, `console` for readable lines, `none` to remove the
            handler.
        level: `debug`, `info`, `warning` or `error`.

    Raises:
        ValueError: The format or the level is unknown.

    Examples:
        >>> configure_logging("json", level="warning")
        >>> configure_logging("none")
    """
    shape, lowest = _one_of(_FORMATS, format), _one_of(_LEVELS, level)
    del format, level  # or a traceback that shows locals would show a secret passed by mistake
    if shape is None:
        raise ValueError("the log format is not known; use json, console or none")
    if lowest is None:
        raise ValueError("the log level is not known; use debug, info, warning or error")
    logger = logging.getLogger(LOGGER)
    for handler in [each for each in logger.handlers if isinstance(each, _StderrHandler)]:
        logger.removeHandler(handler)
    shown = shape != "none"
    logger.disabled = False
    logger.propagate = not shown
    logger.setLevel(lowest.upper() if shown else logging.NOTSET)
    if shown:
        handler = _StderrHandler()
        handler.setFormatter(_formatter(shape))
        logger.addHandler(handler)


def _one_of(known: tuple[T, ...], word: object) -> T | None:
    return next((each for each in known if each == str(word).lower()), None)


class _StderrHandler(logging.StreamHandler[Any]):
    """Writes to the current `sys.stderr`: test runners and daemons replace it."""

    def __init__(self) -> None:
        super().__init__(_Stderr())


class _Stderr:
    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _formatter(format: Format) -> logging.Formatter:  # noqa: A002 - as above
    import structlog

    is_json = format == "json"
    renderer: Any = structlog.processors.JSONRenderer(default=str)
    if not is_json:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), sort_keys=False)
    stamp = structlog.processors.TimeStamper(fmt="iso" if is_json else "%H:%M:%S", utc=is_json)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_unpack, structlog.stdlib.add_log_level, stamp],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )


def _unpack(
    _logger: Any, _name: str, event_dict: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace the text of an event with its fields."""
    from zconfig import events

    event = getattr(event_dict["_record"], "_zconfig_event", None)
    if isinstance(event, events.Event):
        event_dict.update(_shown(event), event=event.name)
    return event_dict


def _shown(event: Event) -> dict[str, Any]:
    """Return an event's fields, with milliseconds rounded."""
    pairs = event.fields().items()
    return {k: round(v, _DIGITS) if isinstance(v, float) else v for k, v in pairs}
