"""Where lifecycle events are written: the application's pipeline, or nowhere until asked."""

from __future__ import annotations

import json
import logging
import logging.handlers
import pickle
from collections.abc import Iterator

import pytest
import structlog

from tests.support.processes import run_python
from zconfig._log import configure_logging, log_event
from zconfig.events import ConnectionClosed, ConnectionConnected

EVENT = ConnectionConnected(
    alias="prod",
    endpoint="http://db:19530",
    origin="ZILLIZ_PROD_URI (environment)",
    server_version="2.3.5",
    attempt=1,
    elapsed_ms=12.34567,
)
FIELDS = {
    "alias": "prod",
    "endpoint": "http://db:19530",
    "origin": "ZILLIZ_PROD_URI (environment)",
    "server_version": "2.3.5",
    "attempt": 1,
    "elapsed_ms": 12.346,
}


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    configure_logging("none")
    structlog.reset_defaults()


def test_without_a_handler_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    log_event(EVENT)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_handler_that_pickles_records_sends_an_event(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="zconfig"):
        log_event(EVENT)
    (record,) = caplog.records
    sent = logging.handlers.SocketHandler("", 0).makePickle(record)
    received = pickle.loads(sent[4:])  # noqa: S301 - its own, after the length
    assert received["_zconfig_event"] == EVENT
    assert received["alias"] == "prod"


def test_in_structlog_an_event_takes_the_applications_own_pipeline() -> None:
    with structlog.testing.capture_logs() as logs:
        structlog.configure(processors=structlog.get_config()["processors"])
        structlog.contextvars.bind_contextvars(request="r1")
        log_event(EVENT)
    assert logs == [{"event": EVENT.name, "log_level": "info", **FIELDS}]


def test_in_structlog_the_context_variables_of_the_application_come_along() -> None:
    lines: list[str] = []

    class Lines:
        def msg(self, text: str) -> None:
            lines.append(text)

        info = msg

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer()],
        logger_factory=lambda *_: Lines(),
    )
    with structlog.contextvars.bound_contextvars(request="r1"):
        log_event(EVENT)
    assert json.loads(lines[0]) == {"event": EVENT.name, "request": "r1", **FIELDS}


def test_the_standard_logger_gets_a_line_and_the_fields(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="zconfig"):
        log_event(EVENT)
    record = caplog.records[0]
    assert record.getMessage().startswith("zconfig.connection.connected alias='prod' ")
    assert {name: getattr(record, name) for name in FIELDS} == FIELDS
    assert record.levelname == "INFO"


def test_json_is_one_object_a_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")
    log_event(EVENT)
    log_event(ConnectionClosed(alias="prod", endpoint="http://db:19530"))
    captured = capsys.readouterr()
    first, second = (json.loads(line) for line in captured.err.splitlines())
    assert captured.out == ""
    assert {name: first[name] for name in FIELDS} == FIELDS
    assert (first["event"], first["level"]) == (EVENT.name, "info")
    assert first["timestamp"].endswith("Z")
    assert second["event"] == "zconfig.connection.closed"


def test_console_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("console")
    log_event(EVENT)
    line = capsys.readouterr().err
    assert "zconfig.connection.connected" in line
    assert "alias=prod" in line
    assert "\x1b" not in line


def test_a_field_that_only_looks_like_an_event_is_no_event(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging("json")
    logging.getLogger("zconfig").warning("x", extra={"_zconfig_event": "ConnectionClosed()"})
    assert json.loads(capsys.readouterr().err)["event"] == "x"


def test_configuring_twice_writes_once(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")
    configure_logging("json")
    log_event(EVENT)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_level_leaves_lower_events_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", level="warning")
    log_event(EVENT)
    assert capsys.readouterr().err == ""


def test_no_other_logger_is_touched() -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers), structlog.is_configured())
    configure_logging("json")
    assert (root.level, list(root.handlers), structlog.is_configured()) == before


@pytest.fixture
def disabled() -> Iterator[logging.Logger]:
    """The logger as `logging.config` leaves those that were there before and are not named."""
    logger = logging.getLogger("zconfig")
    logger.disabled = True
    yield logger
    logger.disabled = False


def test_a_log_that_is_asked_for_works_though_the_logger_was_disabled(
    disabled: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging("json")
    assert not disabled.disabled
    log_event(EVENT)
    disabled.disabled = True  # as Alembic does, run in a process that is connected
    log_event(EVENT)
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_logger_that_somebody_disabled_stays_so_with_a_warning(
    disabled: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.warns(RuntimeWarning, match="disable_existing_loggers=False"):
        log_event(EVENT)
    structlog.configure(logger_factory=structlog.stdlib.LoggerFactory())
    with pytest.warns(RuntimeWarning, match="disable_existing_loggers=False"):
        log_event(EVENT)
    assert (disabled.disabled, caplog.records) == (True, [])


def test_a_logger_that_structlog_does_not_use_may_be_disabled(disabled: logging.Logger) -> None:
    lines: list[dict[str, object]] = []
    structlog.configure(
        processors=[lambda _, __, event: event], logger_factory=lambda *_: Collected(lines)
    )
    log_event(EVENT)
    assert len(lines) == 1
    assert disabled.disabled


class Collected:
    def __init__(self, lines: list[dict[str, object]]) -> None:
        self._bounds = lines

    def info(self, **event: object) -> None:
        self._bounds.append(event)


def test_a_log_that_is_configured_after_the_import_has_the_events() -> None:
    source = """
        import logging.config, sys, zconfig
        logging.config.dictConfig({
            "version": 1,
            "handlers": {"out": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}},
            "root": {"level": "DEBUG", "handlers": ["out"]},
        })
        zconfig.connections.add_connection(a={"uri": "http://h"})
        assert "structlog" not in sys.modules
        zconfig.configure_logging("console")
        zconfig.connections.remove_connection("a")
    """
    done = run_python(source)
    assert "zconfig.connection.configured" in done.stdout
    assert "zconfig.connection.removed" not in done.stderr + done.stdout  # it is of a lower level
    assert done.returncode == 0, done.stderr


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(ValueError, match="json, console or none"):
        configure_logging("xml")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="debug, info, warning or error"):
        configure_logging("json", level="loud")


def test_the_environment_sets_up_the_log_on_first_use(lite_uri: str) -> None:
    source = """
        import sys, zconfig
        print("imported", file=sys.stderr)
        zconfig.autoconnect()
        zconfig.connections.close()
    """
    environ = {"ZILLIZ_URI": lite_uri, "ZCONFIG_LOG_FORMAT": "json"}
    done = run_python(source, environ=environ)
    imported, *lines = done.stderr.splitlines()
    assert imported == "imported"
    assert [json.loads(line)["event"] for line in lines] == [
        "zconfig.config.loaded",
        "zconfig.connection.connected",
        "zconfig.connection.closed",
    ]
    assert done.stdout == ""


def test_the_environment_does_not_override_the_applications_structlog(lite_uri: str) -> None:
    source = """
        import structlog, zconfig
        structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
        zconfig.autoconnect()
    """
    environ = {"ZILLIZ_URI": lite_uri, "ZCONFIG_LOG_FORMAT": "json"}
    done = run_python(source, environ=environ)
    assert "event='zconfig.connection.connected'" in done.stdout
    assert done.stderr == ""


def test_the_applications_own_logs_are_masked_with_the_configured_secrets() -> None:
    source = """
        import logging, sys, structlog, zconfig
        handler = logging.StreamHandler(sys.stdout)
        handler.addFilter(zconfig.masking_filter())
        logging.basicConfig(handlers=[handler])
        logging.warning("calling with %s", "root:s3cret-t0ken")
        renderer = structlog.processors.JSONRenderer()
        structlog.configure(processors=[zconfig.masking_processor(), renderer])
        structlog.get_logger().info("call", password="s3cret-t0ken")
        zconfig.connections.add_connection(b={"uri": "http://h", "token": "an0ther-key"})
        structlog.get_logger().info("call", key="an0ther-key")
    """
    environ = {"ZILLIZ_URI": "http://127.0.0.1:1", "ZILLIZ_TOKEN": "root:s3cret-t0ken"}
    done = run_python(source, environ=environ)
    assert done.returncode == 0, done.stderr
    assert "s3cret-t0ken" not in done.stdout
    assert "an0ther-key" not in done.stdout
    assert done.stdout.count("********") == 3
