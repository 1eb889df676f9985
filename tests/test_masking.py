"""The processor for structlog and the filter for logging: no secret in an application's log."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import logging.handlers
import pickle
import queue
import subprocess
import sys
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote
from uuid import UUID

import orjson
import pydantic_core
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.logging import RichHandler

from tests.support.processes import run_python
from tests.support.registries import registry
from tests.test_redaction import FORMS, SECRETS, WHOLE_FORMS, base64_of, inside
from zconfig._log_masking import MaskedTraceback, MaskingFilter, MaskingProcessor
from zconfig._redaction import MASK, Masker
from zconfig._registry import Connections
from zconfig._settings.configuration import Configuration
from zconfig._settings.load import load
from zconfig.errors import ZConfigError

SECRET = 's3cr&t/with "every" kind\' of \\ char+$'
URL = f"http://root:{quote(SECRET, safe='')}@db:9091/metrics"

Pair = namedtuple("Pair", ["user", "password"])  # noqa: PYI024 - as old code has them


class Level(int):
    def __repr__(self) -> str:
        return f"a level of {SECRET}"


class Ratio(float):
    def __str__(self) -> str:
        return URL


class Phase(complex):
    __repr__ = Ratio.__str__


class Name(str):
    __slots__ = ()
    __repr__ = Level.__repr__


class Parts(list[int]):
    __repr__ = Level.__repr__


class Raw(bytes):
    __repr__ = Level.__repr__


@dataclass
class Account:
    password: str = SECRET

    def __str__(self) -> str:
        return "an account"


class State(Enum):
    LIVE = "live"


class Rank(IntEnum):
    TOP = 1


class Link:
    def __str__(self) -> str:
        return URL


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError(SECRET)

    __str__ = __repr__


class Uncopyable(list[str]):
    def __init__(self) -> None:
        super().__init__([SECRET])


class Cyclic(list[Any]):
    def __init__(self) -> None:
        super().__init__([SECRET])
        self.extend([self] * 9)


def nested(depth: int) -> list[Any]:
    inner: list[Any] = [SECRET]
    for _ in range(depth):
        inner = [inner]
    return inner


def raised(message: str = SECRET) -> Exception:
    """Return an exception that was raised from another, which has a note."""
    local = f"local {SECRET}"
    try:
        try:
            json.loads("")
        except ValueError as error:
            error.add_note(message)
            raise LookupError(message, len(local)) from error
    except LookupError as error:
        caught = error
    return caught


def gone(text: str) -> bool:
    forms = [form(SECRET) for form in WHOLE_FORMS.values()]
    forms += [inside(form, SECRET) for form in FORMS.values()]
    return not any(form in text for form in [*forms, "s3cr", "every"])


# --- structlog -------------------------------------------------------------------------------


@pytest.fixture
def processor() -> MaskingProcessor:
    return MaskingProcessor(Masker(lambda: [f"root:{SECRET}"]))


def processed(processor: MaskingProcessor, **event: Any) -> Any:
    return processor(None, "info", {"event": "call", **event})


VALUES: dict[str, tuple[Any, Any]] = {
    "text": (f"a {SECRET} b", f"a {MASK} b"),
    "a URL": (URL, f"http://{MASK}@db:9091/metrics"),
    "bytes": (SECRET.encode(), MASK.encode()),
    "bytes that are no text": (b"\xff" + SECRET.encode(), b"\xff" + MASK.encode()),
    "a list": ([1, SECRET], [1, MASK]),
    "a tuple": ((1, SECRET), (1, MASK)),
    "a named tuple": (Pair("root", SECRET), Pair("root", MASK)),
    "a set": ({SECRET}, {MASK}),
    "a frozenset": (frozenset({SECRET}), frozenset({MASK})),
    "a dictionary": ({"headers": {"x": [SECRET]}}, {"headers": {"x": [MASK]}}),
    "an ordered dictionary": (OrderedDict(b=SECRET, a=1), {"b": MASK, "a": 1}),
    "a mapping": (MappingProxyType({"x": SECRET}), {"x": MASK}),
    "a key": ({SECRET: 1, 2: 3}, {MASK: 1, 2: 3}),
    "a key that is a tuple": ({(SECRET, 1): 2}, {(MASK, 1): 2}),
    "an exception": (ValueError(f"bad {SECRET}"), f"ValueError('bad {MASK}')"),
    "an object": (Account(), f"Account(password='{MASK}')"),
    "an object that shows it when printed": (Link(), f"http://{MASK}@db:9091/metrics"),
    "a kind of integer": (Level(3), f"a level of {MASK}"),
    "a kind of float": (Ratio(0.5), f"http://{MASK}@db:9091/metrics"),
    "a kind of complex number": (Phase(1j), f"http://{MASK}@db:9091/metrics"),
    "a kind of text": (Name("root"), f"a level of {MASK}"),
    "a kind of bytes": (Raw(b"root"), f"a level of {MASK}"),
    "a kind of list": ([Parts([1])], [f"a level of {MASK}"]),
    "a path": (Path("x", SECRET), f"PosixPath('x/{MASK}')"),
}


@pytest.mark.parametrize(("value", "expected"), VALUES.values(), ids=VALUES.keys())
def test_a_value_of_an_event_is_masked(
    processor: MaskingProcessor, value: Any, expected: Any
) -> None:
    masked = processed(processor, value=value)["value"]
    assert masked == expected
    assert type(masked) is type(expected)


@pytest.mark.parametrize("value", [Cyclic(), nested(15), nested(500), Uncopyable()])
def test_an_odd_collection_is_masked(processor: MaskingProcessor, value: Any) -> None:
    assert gone(repr(processed(processor, value=value)))


def test_a_key_of_an_event_is_masked(processor: MaskingProcessor) -> None:
    assert processor(None, "info", {SECRET: 1, "event": SECRET}) == {MASK: 1, "event": MASK}


def test_an_event_without_secrets_is_returned_as_it_is(processor: MaskingProcessor) -> None:
    values = ["x", b"x", 1, 2.5, None, True, [1, "x"], {"a": ("x", {"y"})}, Path(), Decimal(1)]
    values += [datetime.now(UTC), timedelta(1), UUID(int=1), State.LIVE, Pair("a", 1), Rank.TOP]
    values += [OrderedDict(a=1), logging.makeLogRecord({"msg": "x", "url": "y"})]
    event = {"event": "call", "values": values}
    before = dict(event)
    assert processor(None, "info", event) is event
    assert all(event[name] is before[name] for name in before)


def test_a_collection_beside_a_secret_is_the_same_object(processor: MaskingProcessor) -> None:
    headers = {"accept": ["text/html"]}
    masked = processed(processor, headers=headers, token=SECRET)
    assert masked["headers"] is headers


def test_what_cannot_be_shown_costs_no_event(processor: MaskingProcessor) -> None:
    odd = Unshowable()
    masked = processed(processor, odd=odd, token=SECRET)
    assert (masked["event"], masked["token"]) == ("call", MASK)
    assert "Unshowable object" in masked["odd"]


@dataclass
class Reticent:
    password: str = field(default=SECRET, repr=False)


@pytest.mark.parametrize(
    "render",
    [
        structlog.processors.JSONRenderer(serializer=orjson.dumps),
        structlog.processors.JSONRenderer(
            serializer=lambda event, **_: pydantic_core.to_json(event)
        ),
        structlog.processors.JSONRenderer(default=vars),
    ],
)
def test_no_renderer_reads_the_attributes_of_an_object(
    processor: MaskingProcessor, render: structlog.typing.Processor
) -> None:
    event = processed(processor, one=Reticent(), several=[{"x": Reticent()}, object()])
    assert event["one"] == "Reticent()"
    assert gone(str(render(None, "info", event)))


@pytest.mark.parametrize("shape", ["true", "instance", "tuple"])
def test_an_exception_of_an_event_becomes_text_without_secrets(
    processor: MaskingProcessor, shape: str
) -> None:
    try:
        raise raised()
    except LookupError as error:
        exc_info = {"true": True, "instance": error, "tuple": sys.exc_info()}[shape]
        masked = processed(processor, exc_info=exc_info)["exc_info"]
    assert isinstance(masked, MaskedTraceback)
    assert gone(str(masked))
    assert f"LookupError: ('{MASK}'" in str(masked).replace('"', "'")
    assert "direct cause" in str(masked)
    assert (masked.__cause__, masked.__context__, masked.__traceback__) == (None, None, None)


@pytest.mark.parametrize("exc_info", [None, False, True, (), (None, None, None), "x"])
def test_no_exception_is_none(processor: MaskingProcessor, exc_info: Any) -> None:
    assert processed(processor, exc_info=exc_info) == {"event": "call", "exc_info": exc_info}


LAST = {
    "JSON": [structlog.processors.JSONRenderer()],
    "key and value": [structlog.processors.KeyValueRenderer()],
    "logfmt": [structlog.processors.LogfmtRenderer()],
    "exceptions as text": [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ],
    "exceptions as dictionaries": [
        structlog.processors.dict_tracebacks,
        structlog.processors.JSONRenderer(),
    ],
    "console": [structlog.dev.ConsoleRenderer(colors=False)],
    "console with rich": [
        structlog.dev.ConsoleRenderer(
            exception_formatter=structlog.dev.RichTracebackFormatter(
                show_locals=True, color_system=None, width=300
            )
        )
    ],
}


@pytest.mark.parametrize("renderers", LAST.values(), ids=LAST.keys())
def test_no_renderer_after_the_processor_shows_a_secret(
    processor: MaskingProcessor, renderers: list[Any]
) -> None:
    event: Any = {"event": "call_failed", "url": URL}
    error = raised("an error without")
    if "logfmt" not in str(renderers).lower():
        event["error"] = {"reason": raised()}
    event["exc_info"] = error
    for each in [processor, *renderers]:
        event = each(None, "info", event)
    assert gone(str(event)), event
    assert "call_failed" in str(event)
    assert "LookupError" in str(event)


@pytest.mark.parametrize(
    "before",
    [
        structlog.processors.format_exc_info,
        structlog.processors.ExceptionRenderer(
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        ),
        structlog.processors.ExceptionRenderer(
            structlog.tracebacks.ExceptionDictTransformer(
                show_locals=True, locals_max_string=1000, locals_max_length=100
            )
        ),
        structlog.processors.StackInfoRenderer(),
    ],
)
def test_what_was_rendered_before_the_processor_is_masked(
    processor: MaskingProcessor, before: Any
) -> None:
    event = before(None, "info", {"event": SECRET, "exc_info": raised(), "stack_info": True})
    assert gone(json.dumps(processor(None, "info", event), default=repr))


def test_an_applications_structlog_shows_no_secret(processor: MaskingProcessor) -> None:
    lines = io.StringIO()
    logger = structlog.wrap_logger(
        structlog.PrintLogger(lines),
        processors=[structlog.stdlib.add_log_level, processor, structlog.processors.JSONRenderer()],
    )
    logger.bind(account={"password": SECRET}).warning("denied", url=URL)
    assert json.loads(lines.getvalue()) == {
        "event": "denied",
        "level": "warning",
        "account": {"password": MASK},
        "url": f"http://{MASK}@db:9091/metrics",
    }


FORMATTING: dict[str, list[structlog.typing.Processor]] = {
    "without the record": [structlog.stdlib.ProcessorFormatter.remove_processors_meta],
    "with the record": [],
    "with what was passed as extra": [
        structlog.stdlib.ExtraAdder(),
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
    ],
}
RENDERERS: dict[str, structlog.typing.Processor] = {
    "JSON": structlog.processors.JSONRenderer(),
    "JSON of attributes": structlog.processors.JSONRenderer(
        default=lambda value: {name: repr(each) for name, each in vars(value).items()}
    ),
    "console": structlog.dev.ConsoleRenderer(colors=False),
}


@pytest.mark.parametrize("render", RENDERERS.values(), ids=RENDERERS.keys())
@pytest.mark.parametrize("after", FORMATTING.values(), ids=FORMATTING.keys())
@pytest.mark.parametrize("by_structlog", [True, False])
def test_in_a_formatter_of_structlog_the_record_stays_a_record_without_secrets(
    processor: MaskingProcessor,
    by_structlog: bool,
    after: list[structlog.typing.Processor],
    render: structlog.typing.Processor,
) -> None:
    before = structlog.stdlib.add_logger_name, structlog.stdlib.add_log_level
    site = structlog.processors.CallsiteParameterAdder(
        [structlog.processors.CallsiteParameter.FUNC_NAME]
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
        processors=[processor, *before, site, *after, render],
    )
    log = stream_log(formatter)
    if by_structlog:
        wrapped = structlog.wrap_logger(
            log.logger,
            processors=[structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
            wrapper_class=structlog.stdlib.BoundLogger,
        )
        wrapped.info(f"got {SECRET}", url=URL, account=Account())
    else:
        log.logger.info("got %s", SECRET, extra={"url": URL, "account": Account()})
    line = log.lines()
    assert gone(line), line
    assert line.count("got") >= 1
    assert "test_in_a_formatter" in line


def test_in_a_formatter_of_structlog_the_applications_record_is_left_as_it_is(
    processor: MaskingProcessor,
) -> None:
    record = logging.makeLogRecord({"msg": "got %s", "args": (SECRET,), "url": URL})
    event = processed(processor, _record=record, _from_structlog=False)
    assert (record.args, record.url) == ((SECRET,), URL)  # type: ignore[attr-defined]
    assert type(event["_record"]) is logging.LogRecord
    assert event["_record"].getMessage() == f"got {MASK}"
    assert event["_record"].url == f"http://{MASK}@db:9091/metrics"
    assert event["_from_structlog"] is False


def test_a_record_that_leads_to_itself_costs_no_event(processor: MaskingProcessor) -> None:
    record = logging.makeLogRecord({"msg": SECRET})
    record.own = record
    assert gone(str(processed(processor, _record=record)["_record"]))


def test_a_provider_that_fails_costs_no_event() -> None:
    def secrets() -> list[str]:
        raise RuntimeError

    event = {"event": "call"}
    assert MaskingProcessor(Masker(secrets))(None, "info", event) is event


PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
FORM = st.sampled_from([*FORMS.values(), *WHOLE_FORMS.values()])


@given(data=st.data(), secret=SECRETS, form=FORM, before=st.text(), after=st.text())
def test_no_secret_survives_at_any_depth(
    data: st.DataObject, secret: str, form: Callable[[str], str], before: str, after: str
) -> None:
    text = before + form(secret) + after
    trees = st.recursive(
        PLAIN | st.just(text),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just(text), inner),
        max_leaves=6,
    )
    event = {"event": data.draw(trees), text: [text]}
    masked = MaskingProcessor(Masker(lambda: [f"root:{secret}"]))(None, "info", event)
    assert not [each for each in texts(masked) if form(secret) in each]
    assert len([*texts(masked)]) == len([*texts(event)])


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    if isinstance(value, list | dict):
        for each in value:
            yield from texts(each)
    if isinstance(value, dict):
        for each in value.values():
            yield from texts(each)


# --- logging -----------------------------------------------------------------------------------


class Log:
    """A logger with a handler, and what comes out there."""

    def __init__(self, handler: logging.Handler, lines: Callable[[], str]) -> None:
        self.logger = logging.Logger("app", logging.DEBUG)  # noqa: LOG001 - one that is not shared
        self.handler = handler
        self.logger.addHandler(handler)
        self.lines = lines


def stream_log(formatter: logging.Formatter | None = None) -> Log:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    return Log(handler, stream.getvalue)


class EveryField(logging.Formatter):
    """Shows all that a record has, and renders the exception itself, as JSON formatters do."""

    def format(self, record: logging.LogRecord) -> str:
        error = self.formatException(record.exc_info) if record.exc_info else record.exc_text
        fields = {name: repr(value) for name, value in vars(record).items()}
        return json.dumps({**fields, "error": error, "message": record.getMessage()})


FORMATTERS: dict[str, Callable[[], logging.Formatter | None]] = {
    "by default": lambda: None,
    "every field": EveryField,
    "structlog": lambda: structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ],
    ),
}


@pytest.fixture
def masking() -> MaskingFilter:
    return MaskingFilter(Masker(lambda: [f"root:{SECRET}"]))


def log_exception(logger: logging.Logger) -> None:
    try:
        raise raised()
    except LookupError:
        logger.exception("failed")


CALLS: dict[str, Callable[[logging.Logger], None]] = {
    "the message": lambda log: log.info(f"got {SECRET}"),  # noqa: G004 - as people do
    "a message that is an exception": lambda log: log.info(raised()),
    "a message that is an object": lambda log: log.info(Account()),
    "an argument": lambda log: log.info("got %s", URL),
    "an argument as it is represented": lambda log: log.info("got %r", SECRET),
    "an argument that is an object": lambda log: log.info("got %s", Account()),
    "an argument that is an exception": lambda log: log.info("got %s", raised()),
    "an argument of several": lambda log: log.info("%s %d %.1f %s", SECRET, 7, 0.5, ["x", SECRET]),
    "named arguments": lambda log: log.info("got %(token)s", {"token": SECRET, "other": SECRET}),
    "an argument that is cut short": lambda log: log.info("got %.8s", SECRET),
    "a message made of parts": lambda log: log.info("got %s%s", SECRET[:9], SECRET[9:]),
    "a template": lambda log: log.info(f"{SECRET.replace('%', '%%')} %s", 1),  # noqa: G004 - as people do
    "an exception": log_exception,
    "an exception in a tuple": lambda log: log.error("x", exc_info=raised()),
    "extra": lambda log: log.info("x", extra={"token": SECRET, "urls": {"a": [URL]}}),
    "extra object": lambda log: log.info("x", extra={"account": Account()}),
}


@pytest.mark.parametrize("formatter", FORMATTERS.values(), ids=FORMATTERS.keys())
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_a_record_is_masked(
    call: Callable[[logging.Logger], None],
    formatter: Callable[[], logging.Formatter | None],
    masking: MaskingFilter,
) -> None:
    log = stream_log(formatter())
    log.handler.addFilter(masking)
    call(log.logger)
    assert log.lines()
    assert gone(log.lines()), log.lines()


def test_the_rest_of_a_record_is_kept(masking: MaskingFilter) -> None:
    log = stream_log(logging.Formatter("%(levelname)s %(name)s %(message)s %(url)s"))
    log.handler.addFilter(masking)
    log.logger.warning("%s took %d ms for %s", URL, 7, "x", extra={"url": URL})
    url = f"http://{MASK}@db:9091/metrics"
    assert log.lines() == f"WARNING app {url} took 7 ms for x {url}\n"


@pytest.mark.parametrize("name", ["name", "threadName", "processName", "taskName"])
def test_the_names_of_what_logs_a_record_are_masked(masking: MaskingFilter, name: str) -> None:
    record = logging.makeLogRecord({"msg": "got it", name: f"fetch {SECRET}"})
    assert masking.filter(record)
    assert getattr(record, name) == f"fetch {MASK}"


def test_arguments_stay_arguments(masking: MaskingFilter) -> None:
    record = logging.makeLogRecord({"msg": "%s took %d ms", "args": (SECRET, 7)})
    assert masking.filter(record)
    assert (record.msg, record.args) == ("%s took %d ms", (MASK, 7))


def test_a_traceback_is_kept_but_for_the_secret(masking: MaskingFilter) -> None:
    log = stream_log()
    log.handler.addFilter(masking)
    log_exception(log.logger)
    first, *_, last = log.lines().splitlines()
    assert first == "failed"
    assert last.replace('"', "'").startswith(f"LookupError: ('{MASK}'")
    assert "in log_exception\n" in log.lines()
    assert "raise raised()\n" in log.lines()
    assert "MaskedTraceback" not in log.lines()


def test_a_record_without_secrets_is_left_as_it_is(masking: MaskingFilter) -> None:
    error = raised("nothing")
    exc_info = (type(error), error, error.__traceback__)
    extra = {"user": ["x"], "ids": {1}, "path": Path(), "odd": Unshowable()}
    made = {"msg": ["%s", "x"], "args": (1, {"a": "b"}), "exc_info": exc_info, "stack_info": "s"}
    record = logging.makeLogRecord({**made, **extra})
    before = dict(vars(record))
    assert masking.filter(record) is True
    assert vars(record).keys() == before.keys()
    assert all(vars(record)[name] is before[name] for name in before)


def test_a_cached_rendering_is_masked(masking: MaskingFilter) -> None:
    record = logging.makeLogRecord(
        {"exc_text": SECRET, "message": SECRET, "stack_info": SECRET, "asctime": "now"}
    )
    masking.filter(record)
    assert [record.exc_text, record.message, record.stack_info] == [MASK, MASK, MASK]


def test_a_call_that_cannot_be_formatted_shows_no_secret(
    masking: MaskingFilter, capsys: pytest.CaptureFixture[str]
) -> None:
    log = stream_log()
    log.handler.addFilter(masking)
    log.logger.info("%s %s and %d", SECRET)  # noqa: PLE1206 - the mistake it is about
    log.logger.info(f"{SECRET} %d", "x")  # noqa: G004 - as people do
    shown = capsys.readouterr().err
    assert shown.count("Logging error") == 2
    reports = [line for line in shown.splitlines() if line.startswith(("Message:", "Arguments:"))]
    assert len(reports) == 4
    assert gone("\n".join(reports))


def test_on_a_logger_it_masks_for_all_its_handlers(masking: MaskingFilter) -> None:
    log, other = stream_log(), stream_log()
    log.logger.addHandler(other.handler)
    log.logger.addFilter(masking)
    log.logger.info(SECRET)
    assert log.lines() == other.lines() == f"{MASK}\n"


def test_records_for_a_queue_are_masked_before_they_leave(masking: MaskingFilter) -> None:
    records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(records)
    handler.addFilter(masking)
    log = Log(handler, str)
    log.logger.info("got %s", SECRET, extra={"url": URL})
    log_exception(log.logger)
    sent = [records.get(timeout=5), records.get(timeout=5)]
    assert gone(repr(pickle.dumps(sent)) + repr([vars(record) for record in sent]))
    assert sent[0].message == f"got {MASK}"


def test_rich_shows_no_local_variable_of_an_exception_with_a_secret(
    masking: MaskingFilter,
) -> None:
    stream = io.StringIO()
    handler = RichHandler(
        console=Console(file=stream, width=300), rich_tracebacks=True, tracebacks_show_locals=True
    )
    handler.addFilter(masking)
    log_exception(Log(handler, stream.getvalue).logger)
    assert "failed" in stream.getvalue()
    assert gone(stream.getvalue())


def test_it_can_be_named_in_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    source = f"""
import logging, logging.config
from zconfig._log_masking import MaskingFilter
from zconfig._redaction import Masker
logging.config.dictConfig({{
    "version": 1,
    "filters": {{"secrets": {{"()": lambda: MaskingFilter(Masker(lambda: [{SECRET!r}]))}}}},
    "handlers": {{"out": {{"class": "logging.StreamHandler", "filters": ["secrets"]}}}},
    "root": {{"handlers": ["out"], "level": "INFO"}},
}})
logging.getLogger("some.library").info("got %s", {SECRET!r})
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", f"got {MASK}\n")


ODD_RECORDS: list[dict[str, Any]] = [
    {"msg": Unshowable()},
    {"msg": "%s", "args": (Unshowable(),)},
    {"msg": "%d", "args": ("x",)},
    {"msg": "%(x)s", "args": {}},
    {"args": 7},
    {"exc_info": 7},
    {"exc_info": (None, None, None)},
    {"exc_info": (ValueError, Unshowable(), None)},
    {"odd": Cyclic()},
    {"odd": Uncopyable()},
]


@pytest.mark.parametrize(
    "attributes", ODD_RECORDS, ids=lambda odd: f"{[*odd][-1]}-{type([*odd.values()][-1]).__name__}"
)
def test_no_record_makes_it_raise(attributes: Mapping[str, Any], masking: MaskingFilter) -> None:
    record = logging.LogRecord("app", logging.INFO, "x.py", 1, "x", (), None)
    vars(record).update(attributes)
    vars(record)["token"] = SECRET
    assert masking.filter(record) is True
    assert vars(record)["token"] == MASK


def test_a_record_of_an_odd_class_is_not_lost(masking: MaskingFilter) -> None:
    class Odd(logging.LogRecord):
        def getMessage(self) -> str:  # noqa: N802 - the standard library's name
            return None  # type: ignore[return-value]  # the oddity

    log = stream_log(logging.Formatter("%(message)s %(token)s"))
    log.handler.addFilter(masking)
    record = Odd("app", logging.INFO, "x.py", 1, "x", (), None)
    vars(record)["token"] = SECRET
    log.logger.handle(record)
    assert log.lines() == f"None {MASK}\n"


def test_a_provider_that_fails_costs_no_record() -> None:
    def secrets() -> list[str]:
        raise RuntimeError

    log = stream_log()
    log.handler.addFilter(MaskingFilter(Masker(secrets)))
    log.logger.info("got %s", "x")
    assert log.lines() == "got x\n"


@given(secret=SECRETS, form=FORM, before=st.text(), after=st.text())
def test_no_secret_survives_in_any_record(
    secret: str, form: Callable[[str], str], before: str, after: str
) -> None:
    encoded = form(secret)
    log = stream_log()
    log.handler.addFilter(MaskingFilter(Masker(lambda: [f"root:{secret}"])))
    log.logger.info("%s", before + encoded + after)
    assert MASK in log.lines()
    assert encoded not in log.lines()


# --- every form in every place -------------------------------------------------------------------

ALL_FORMS = FORMS | WHOLE_FORMS


PLACES: dict[str, Callable[[logging.Logger, str], None]] = {
    "the message": lambda log, text: log.info(text),
    "an argument": lambda log, text: log.info("got %s", text),
    "a field": lambda log, text: log.info("x", extra={"field": text}),
    "a list in a dictionary": lambda log, text: log.info("x", extra={"field": {"a": [1, text]}}),
    "the text of an exception": lambda log, text: log.info("got %s", ValueError(text)),
    "a traceback": lambda log, text: log.error("x", exc_info=raised(text)),
}


def logged(secret: str, place: str, text: str) -> str:
    """Return all that a record shows of a text in one of its places."""
    log = stream_log(EveryField())
    log.handler.addFilter(MaskingFilter(Masker(lambda: [f"root:{secret}"])))
    PLACES[place](log.logger, text)
    return log.lines()


@pytest.mark.parametrize("form", ALL_FORMS)
@pytest.mark.parametrize("place", PLACES)
def test_every_form_is_masked_in_every_place(place: str, form: str) -> None:
    lines = logged(SECRET, place, f"<{ALL_FORMS[form](SECRET)}>")
    assert MASK in lines
    assert gone(lines), lines


@given(secret=SECRETS, form=FORM, place=st.sampled_from([*PLACES]))
def test_no_secret_survives_in_any_place(
    secret: str, form: Callable[[str], str], place: str
) -> None:
    encoded = form(secret)
    lines = logged(secret, place, encoded)
    assert MASK in lines
    shown = (encoded, json.dumps(encoded)[1:-1], json.dumps(repr(encoded)[1:-1])[1:-1])
    assert not [each for each in shown if each in lines], lines


@pytest.mark.parametrize("place", PLACES)
def test_a_secret_that_is_too_short_is_left_alone(place: str) -> None:
    lines = logged("s3crt", place, "a s3crt b")
    assert "a s3crt b" in lines
    assert MASK not in lines


# --- of the configured connections -------------------------------------------------------------

U, OTHER = "http://127.0.0.1:1", "0ther-s3cret"

WRONG: dict[str, dict[str, str]] = {
    "right": {"URI": U, "TOKEN": SECRET},
    "a bad URI": {"URI": "http://h:0", "TOKEN": SECRET},
    "a bad URI with the password": {"URI": f"http://root:{quote(SECRET, safe='')}@h:0"},
    "userinfo that is not encoded": {"URI": f"http://root:{SECRET}@h"},
    "userinfo without a scheme": {"URI": f"root:{SECRET}@h"},
    "a key as userinfo, not encoded": {"URI": f"http://{SECRET}@h"},
    "no URI": {"TOKEN": SECRET},
    "a password alone": {"URI": U, "PASSWORD": SECRET},
    "a token beside a pair": {"URI": U, "TOKEN": OTHER, "USER": "root", "PASSWORD": SECRET},
    "two spellings": {"URI": U, "TOKEN": OTHER, "API_KEY": SECRET},
    "another field": {"URI": U, "TOKEN": SECRET, "TIMEOUT": "soon"},
    "a proxy of another kind": {"URI": U, "PROXY": f"socks5://u:{quote(SECRET, safe='')}@h"},
    "a proxy that is not encoded": {"URI": U, "PROXY": f"http://u:{SECRET}@h"},
}


def configured(directory: Path, **environ: str) -> Configuration:
    return load(environ, directory, system_secrets=str(directory / "none"))


@pytest.mark.parametrize("wrong", WRONG)
def test_the_secret_of_an_alias_is_known_right_or_wrong(wrong: str, tmp_path: Path) -> None:
    environ = {f"ZILLIZ_A_{field}": value for field, value in WRONG[wrong].items()}
    configuration = configured(tmp_path, **environ)
    assert bool(configuration.aliases) == (wrong == "right")
    shown = Masker(lambda: configuration.secrets).mask(f"<{SECRET}> {URL}")
    assert gone(shown), shown


def test_the_secret_of_a_file_is_known_and_its_path_is_none(tmp_path: Path) -> None:
    path = tmp_path / "s3cret-file"
    path.touch(0o600)
    path.write_text(f"{SECRET}\n")
    configuration = configured(tmp_path, ZILLIZ_URI="h", ZILLIZ_TOKEN_FILE=str(path))
    assert [*configuration.secrets] == [SECRET]


def test_a_secret_that_is_shadowed_is_known(tmp_path: Path) -> None:
    (tmp_path / ".env").touch(0o600)
    (tmp_path / ".env").write_text("ZILLIZ_TOKEN=from-the-file\nZILLIZ_URI=http://u:in-uri@h\n")
    environ = {"ZILLIZ_URI": U, "ZILLIZ_USER": "root", "ZILLIZ_PASSWORD_FILE": "nowhere"}
    assert {*configured(tmp_path, **environ).secrets} == {"from-the-file", "u:in-uri"}


def test_what_is_no_secret_is_not_taken_for_one(tmp_path: Path) -> None:
    environ = {
        "ZILLIZ_URI": f"{tmp_path}/a@b/milvus.db",
        "ZILLIZ_DB_NAME": "sales@home",
        "ZILLIZ_B_URI": "http://db_admin@host",
        "ZILLIZ_B_PASSWORD": SECRET,
        "ZILLIZ_B_PROXY": "http://proxy:3128",
    }
    assert [*configured(tmp_path, **environ).secrets] == [SECRET]


CALLS_THAT_FAIL: dict[str, Callable[[Connections], object]] = {
    "refused": lambda c: c.connect("x", uri=U, token=SECRET, timeout=1),
    "refused, a pair": lambda c: c.connect("x", uri=U, user="root", password=SECRET, timeout=1),
    "a bad URI": lambda c: c.connect("x", uri="http://h:0", token=SECRET),
    "userinfo that is not encoded": lambda c: c.connect("x", uri=f"http://root:{SECRET}@h"),
    "an unknown argument": lambda c: c.connect("x", uri=U, token=SECRET, colour="red"),
    "without a place": lambda c: c.connect("nothing", token=SECRET),
    "add_connection": lambda c: c.add_connection(x={"uri": "http://h:0", "password": SECRET}),
    "override": lambda c: c.override({"x": {"uri": U, "api_key": SECRET}}).__enter__(),
}


@pytest.mark.parametrize("call", CALLS_THAT_FAIL)
def test_the_secret_of_a_call_that_failed_is_masked(call: str) -> None:
    with registry() as connections:
        with pytest.raises(ZConfigError):
            CALLS_THAT_FAIL[call](connections)
        assert gone(Masker(connections.secrets).mask(f"{SECRET} {URL}"))


def test_what_a_failed_call_sent_is_masked() -> None:
    with registry() as connections:
        with pytest.raises(ZConfigError):
            connections.connect("x", uri=U, user="root", password=SECRET, timeout=1)
        sent = base64_of(f"root:{SECRET}")
        assert Masker(connections.secrets).mask(sent.rstrip("=")) == MASK


def test_the_secret_of_an_alias_that_is_wrong_is_masked() -> None:
    with registry(ZILLIZ_URI="http://h:0", ZILLIZ_TOKEN=SECRET) as connections:
        assert gone(Masker(connections.secrets).mask(URL))


def test_a_secret_is_masked_after_it_was_replaced() -> None:
    environ = {"ZILLIZ_URI": U, "ZILLIZ_TOKEN": "first-s3cret"}
    nowhere = Path("nowhere")
    connections = Connections(lambda: load(environ, nowhere, system_secrets="nowhere"))
    masker = Masker(connections.secrets)
    for token in ("second-s3cret", "third-s3cret"):
        environ["ZILLIZ_TOKEN"] = token
        connections.reload()
    connections.add_connection(x={"uri": U, "token": "code-s3cret"})
    connections.remove_connection("x")
    with connections.override({"default": {"uri": U, "token": "test-s3cret"}}):
        connections.reload()
        assert masker.mask("third-s3cret test-s3cret") == f"{MASK} {MASK}"
    old = "first-s3cret second-s3cret third-s3cret code-s3cret test-s3cret"
    assert masker.mask(old) == " ".join([MASK] * 5)


def test_the_configured_secrets_are_masked_and_change_with_a_reload(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.touch(0o600)
    path.write_text("pa55word-of-a-file\n")
    source = """
        import logging, os, structlog, sys, zconfig

        secrets = "token-of-default pa55word-of-a-file pa55word%2Fof-a-proxy token-of-code".split()
        zconfig.connections.add_connection(c={"uri": "./x.db", "token": "token-of-code"})
        handler = logging.StreamHandler(sys.stdout)
        handler.addFilter(zconfig.masking_filter())
        logging.getLogger().addHandler(handler)
        logging.warning("%s", secrets)
        os.environ["ZILLIZ_TOKEN"] = "another-token"
        zconfig.reload()
        logging.warning("token-of-default another-token")  # the old one may not be revoked yet
        structlog.configure([zconfig.masking_processor(), structlog.processors.JSONRenderer()])
        structlog.get_logger().warning(["another-token", *secrets[1:]])
    """
    environ = {
        "ZILLIZ_URI": "http://127.0.0.1:1",
        "ZILLIZ_TOKEN": "token-of-default",
        "ZILLIZ_PROXY": "http://root:pa55word%2Fof-a-proxy@127.0.0.1:1",
        "ZILLIZ_B_URI": "http://127.0.0.1:1",
        "ZILLIZ_B_USER": "root",
        "ZILLIZ_B_PASSWORD_FILE": str(path),
    }
    done = run_python(source, environ=environ)
    assert done.stdout.splitlines() == [
        str([MASK] * 4),
        f"{MASK} {MASK}",
        json.dumps({"event": [MASK] * 4}),
    ]
    assert done.stderr == ""
