"""The shield around an import: nothing of the process changes, and only for its own thread."""

import importlib
import json
import logging
import logging.config
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dotenv
import pytest

import zconfig
from zconfig._channel.pymilvus_import import import_without_side_effects


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that writes a module, and one that imports it anew."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(source):
        (tmp_path / "noisy.py").write_text(source)

    def load():
        monkeypatch.delitem(sys.modules, "noisy", raising=False)
        importlib.invalidate_caches()
        return importlib.import_module("noisy")

    return write, load


def quietly(load):
    with import_without_side_effects():
        return load()


def run(script, **environment):
    """Run Python in a process of its own; return what it printed, parsed."""
    env = {**os.environ, "PYTHONPATH": str(Path(zconfig.__file__).parents[1]), **environment}
    done = subprocess.run(
        [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_a_dotenv_file_that_the_import_loads_stays_out_of_the_environment(module, tmp_path):
    write, load = module
    (tmp_path / ".env").write_text("FROM_DOTENV=1\n")
    write("import dotenv\ndotenv.load_dotenv()\n")
    before = dict(os.environ)
    quietly(load)
    assert dict(os.environ) == before
    load()
    assert os.environ["FROM_DOTENV"] == "1"


def test_a_dotenv_function_taken_before_is_kept_from_writing_too(module, tmp_path, monkeypatch):
    write, load = module
    (tmp_path / ".env").write_text("FROM_DOTENV=1\n")
    taken = type(sys)("taken")
    taken.load_dotenv = dotenv.load_dotenv
    monkeypatch.setitem(sys.modules, "taken", taken)
    write("import taken\ntaken.load_dotenv()\n")
    quietly(load)
    assert "FROM_DOTENV" not in os.environ


CONFIGURES_LOGGING = """
import logging.config
logging.config.dictConfig({
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"noisy": {"handlers": ["console"], "level": "INFO", "propagate": False}},
})
logging.getLogger("noisy.part").setLevel(logging.DEBUG)
"""


def test_logging_is_not_configured_and_the_applications_handlers_stay_open(module):
    write, load = module
    write(CONFIGURES_LOGGING)

    class Handler(logging.StreamHandler):
        closed = False

        def close(self):
            self.closed = True
            super().close()

    handler = Handler()
    root = logging.getLogger()
    root.addHandler(handler)
    level, handlers = root.level, list(root.handlers)
    noisy, part = logging.getLogger("noisy"), logging.getLogger("noisy.part")
    try:
        quietly(load)
        assert not handler.closed
        assert (root.level, root.handlers) == (level, handlers)
        assert (noisy.level, noisy.handlers, noisy.propagate) == (logging.NOTSET, [], True)
        assert part.level == logging.NOTSET
    finally:
        root.removeHandler(handler)
        handler.close()


READS_MILVUS_URI = "import os\nuri = os.getenv('MILVUS_URI', 'nothing')\n"


@pytest.mark.parametrize("uri", ["./app.db", "localhost:19530", "unix:/run/milvus", "http://[", ""])
def test_a_milvus_uri_that_breaks_the_import_of_pymilvus_is_hidden_from_it(
    module, monkeypatch, uri
):
    write, load = module
    write(READS_MILVUS_URI)
    monkeypatch.setenv("MILVUS_URI", uri)
    assert quietly(load).uri == "nothing"
    assert os.environ["MILVUS_URI"] == uri


def test_a_milvus_uri_that_pymilvus_understands_is_shown_to_it(module, monkeypatch):
    write, load = module
    write(READS_MILVUS_URI)
    monkeypatch.setenv("MILVUS_URI", "http://localhost:19530")
    assert quietly(load).uri == "http://localhost:19530"


def test_other_variables_are_shown_as_they_are(module, monkeypatch):
    write, load = module
    write("import os\nvalues = [os.getenv('OTHER'), os.getenv('NONE'), os.getenv('NONE', 7)]\n")
    monkeypatch.setenv("OTHER", "./x.db")
    assert quietly(load).values == ["./x.db", None, 7]


def test_other_threads_are_not_shielded(tmp_path, monkeypatch):
    path = tmp_path / "mine.env"
    path.write_text("FROM_DOTENV=1\n")
    monkeypatch.setenv("MILVUS_URI", "./app.db")
    logger = logging.getLogger("another.thread")

    def another():
        dotenv.load_dotenv(path)
        logger.setLevel(logging.INFO)
        return os.getenv("MILVUS_URI")

    with ThreadPoolExecutor(1) as pool, import_without_side_effects():
        seen = pool.submit(another).result()
    assert seen == "./app.db"
    assert os.environ["FROM_DOTENV"] == "1"
    assert logger.level == logging.INFO


def originals():
    owners = (
        (dotenv.main.DotEnv, "set_as_environment_variables"),
        (logging.config, "dictConfig"),
        (logging.Logger, "setLevel"),
        (os, "getenv"),
    )
    return [getattr(owner, name) for owner, name in owners]


def test_an_import_that_fails_raises_and_lifts_the_shield(module):
    write, load = module
    write("import module_that_does_not_exist\n")
    before = originals()
    with pytest.raises(ModuleNotFoundError, match="module_that_does_not_exist"):
        quietly(load)
    assert originals() == before


def test_shields_nest():
    before = originals()
    with import_without_side_effects():
        with import_without_side_effects():
            pass
        assert originals() != before
    assert originals() == before


def test_a_second_thread_waits_for_the_shield_and_leaves_the_functions_as_they_were():
    before = originals()
    entered = threading.Event()
    left = threading.Event()

    def second():
        with import_without_side_effects():
            entered.set()
            left.wait(30)

    with ThreadPoolExecutor(1) as pool:
        with import_without_side_effects():
            waiting = pool.submit(second)
            assert not entered.wait(0.2)
        left.set()
        waiting.result()
    assert entered.is_set()
    assert originals() == before


def test_a_function_that_the_import_took_works_as_ever_afterwards(module, monkeypatch):
    write, load = module
    write("from os import getenv\n")
    monkeypatch.setenv("MILVUS_URI", "./app.db")
    noisy = quietly(load)
    assert noisy.getenv("MILVUS_URI") == "./app.db"


IMPORTS_PYMILVUS = """
import json, logging, os, sys
from zconfig._channel.pymilvus_import import import_without_side_effects

class Handler(logging.Handler):
    closed, lines = False, []
    def close(self):
        self.closed = True
    def emit(self, record):
        self.lines.append(record.getMessage())

handler = Handler()
logging.getLogger().addHandler(handler)

def state():
    loggers = {"": logging.getLogger()} | logging.root.manager.loggerDict
    return {
        "environment": dict(os.environ),
        "loggers": {
            name: [logger.level, logger.propagate, [
                repr(one) for one in logger.handlers if not isinstance(one, logging.NullHandler)
            ]]
            for name, logger in loggers.items() if isinstance(logger, logging.Logger)
        },
    }

before = state()
with import_without_side_effects():
    import pymilvus
after = state()
closed = handler.closed
new = {k: v for k, v in after.pop("loggers").items() if before["loggers"].pop(k, None) != v}
logging.getLogger("pymilvus.client").warning("heard")
print(json.dumps({
    "same": before.pop("loggers") == {} and before == after,
    "configured": {name: kept for name, kept in new.items() if kept != [0, True, []]},
    "closed": closed,
    "heard": handler.lines,
    "default": pymilvus.DefaultConfig.MILVUS_URI,
}))
"""


@pytest.mark.parametrize("uri", ["./app.db", "http://localhost:19530"])
def test_importing_pymilvus_changes_nothing_and_its_records_reach_the_application(uri):
    seen = run(IMPORTS_PYMILVUS, MILVUS_URI=uri)
    default = uri if "//" in uri else ""
    assert seen == {
        "same": True,
        "configured": {},
        "closed": False,
        "heard": ["heard"],
        "default": default,
    }


IMPORTED_BEFORE = """
import json, logging
import pymilvus
logger = logging.getLogger("pymilvus")
before = [logger.level, logger.propagate, list(logger.handlers)]
from zconfig._channel.pymilvus_import import import_without_side_effects
with import_without_side_effects():
    import pymilvus
after = [logger.level, logger.propagate, list(logger.handlers)]
print(json.dumps(before == after and not logger.propagate))
"""


def test_pymilvus_imported_before_by_the_application_stays_as_it_is():
    assert run(IMPORTED_BEFORE) is True
