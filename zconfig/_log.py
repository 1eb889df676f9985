"""Lifecycle events → structlog, through the application's own pipeline.

If the application configured structlog, events take its processors and its output. Otherwise
they go to the standard library's logger `zconfig`, which is silent until someone gives it a
handler. structlog's own default prints to standard output, where a program's results are, so it
is never relied on.
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
    logger, level = _logger(), logging.getLevelNamesMapping()[event.level.upper()]
    if logger.isEnabledFor(level):
        fields = _shown(event)
        pairs = (f"{name}={value!r}" for name, value in fields.items())
        text = " ".join((event.name, *pairs))
        logger.log(level, "%s", text, extra={**fields, "_zconfig_event": event})


def _has_structlog() -> bool:
    """Tell whether the application configured structlog, which it has imported then."""
    if "structlog" not in sys.modules:
        return False
    import structlog

    return structlog.is_configured()


def _logger() -> logging.Logger:
    """Return the standard library's logger, which is enabled where its output was asked for.

    `logging.config` disables each logger that is there and that it does not name, as long as it is
    not told otherwise. So this one is made by the first event, not on import.
    """
    logger = logging.getLogger(LOGGER)
    if not logger.handlers:  # without one the standard library prints warnings by itself
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
    """Return a hook that logs, and first does what `ZCONFIG_LOG_FORMAT` asks for.

    On the first event, not on import: importing a library configures nothing.

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
    """Show the lifecycle events on standard error.

    The ready-made set-up for programs without one of their own: a handler on the logger
    `zconfig`, and on nothing else. Calling it again replaces it.

    Args:
        format: `json` for one object a line, `console` for people, `none` to take it back.
        level: `debug`, `info`, `warning` or `error`.

    Raises:
        ValueError: The format or the level is not one of these.

    Example:
        >>> configure_logging("json", level="warning")
        >>> configure_logging("none")
    """
    shape, lowest = _one_of(_FORMATS, format), _one_of(_LEVELS, level)
    del format, level  # or a traceback that shows locals would show a secret passed by mistake
    if shape is None:
        raise ValueError("the format of the log is none of json, console and none")
    if lowest is None:
        raise ValueError("the level of the log is none of debug, info, warning and error")
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
    """Writes to whatever `sys.stderr` is at the time: test runners and daemons replace it."""

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
    """Put an event's own fields in place of the line that was made of them."""
    from zconfig import events

    event = getattr(event_dict["_record"], "_zconfig_event", None)
    if isinstance(event, events.Event):
        event_dict.update(_shown(event), event=event.name)
    return event_dict


def _shown(event: Event) -> dict[str, Any]:
    """Return an event's fields, milliseconds without digits that mean nothing."""
    pairs = event.fields().items()
    return {k: round(v, _DIGITS) if isinstance(v, float) else v for k, v in pairs}
