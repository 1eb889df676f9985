"""Sources that installed packages bring, found by their entry points."""

import pickle
import shutil
import sys
import textwrap
import tomllib
from importlib.metadata import entry_points

import pytest

from tests.support.pages import TopologyCache, blocks_of, follow
from tests.support.processes import REPOSITORY, run_python
from zconfig._origin import Origin
from zconfig._redaction import Secret
from zconfig._settings.load import load
from zconfig._sources.remote import GROUP, plugin_readings, read_mapping

SECRET = "s3cret-pa55"


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package whose one module has a source; the last one is found first."""
    before = set(sys.modules)

    def install(module, source, *, name=None, group=GROUP):
        info = tmp_path / module / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (info.parent / f"{module}.py").write_text(textwrap.dedent(source))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{group}]\n{name or module} = {module}:read\n")
        monkeypatch.syspath_prepend(info.parent)

    yield install
    for module in set(sys.modules) - before:
        del sys.modules[module]


def returning(expression):
    return f"def read(environ):\n    return {expression}\n"


def keys(reading):
    return {entry.key: str(entry.value.reveal()) for entry in reading.entries}


def test_without_plugins_there_is_nothing():
    assert plugin_readings({"ZILLIZ_URI": "x"}) == ()


def test_a_plugin_is_a_layer_named_after_it(install):
    install("acme_vault", returning(f"{{'ZILLIZ_PROD_TOKEN': {SECRET!r}}}"), name="acme")

    [reading] = plugin_readings({})
    [entry] = reading.entries
    assert (reading.name, reading.problems, reading.files) == ("plugin acme", (), ())
    assert (entry.key, entry.value) == ("ZILLIZ_PROD_TOKEN", SECRET)
    assert entry.origin == Origin("plugin acme", "ZILLIZ_PROD_TOKEN")
    assert str(entry.origin) == "ZILLIZ_PROD_TOKEN (plugin acme)"


def test_a_value_of_a_plugin_is_hidden(install):
    install("acme", returning(f"{{'ZILLIZ_TOKEN': {SECRET!r}}}"))

    readings = plugin_readings({})
    assert isinstance(readings[0].entries[0].value, Secret)
    assert SECRET not in repr(readings)
    assert SECRET.encode() not in pickle.dumps(readings)


def test_a_plugin_sees_the_environment_and_cannot_write_to_it(install):
    install(
        "acme",
        """
        def read(environ):
            try:
                environ["ZILLIZ_URI"] = "written"
            except TypeError:
                return {"ZILLIZ_URI": environ["ACME_HOST"]}
        """,
    )
    environ = {"ACME_HOST": "http://127.0.0.1:19530"}

    assert keys(plugin_readings(environ)[0]) == {"ZILLIZ_URI": "http://127.0.0.1:19530"}
    assert environ == {"ACME_HOST": "http://127.0.0.1:19530"}


def test_what_was_not_meant_to_be_in_a_value_of_a_plugin_is_reported(install, tmp_path):
    install("acme", returning("{'ZILLIZ_URI': 'https://db', 'ZILLIZ_TOKEN': '${{ secrets.T }}'}"))

    [problem] = load({}, tmp_path, system_secrets=str(tmp_path / "none")).problems
    assert (problem.code, problem.severity) == ("placeholder", "warning")
    assert str(problem.origin) == "ZILLIZ_TOKEN (plugin acme)"


def test_plugins_come_in_the_order_of_their_names(install):
    for module, name in (("m0", "mid"), ("m1", "zeta"), ("m2", "alpha"), ("m3", "mid")):
        install(module, returning(f"{{'ZILLIZ_URI': {module!r}}}"), name=name)

    found = [(reading.name, keys(reading)["ZILLIZ_URI"]) for reading in plugin_readings({})]
    assert found == [
        ("plugin alpha", "m2"),
        ("plugin mid", "m0"),
        ("plugin mid", "m3"),
        ("plugin zeta", "m1"),
    ]


def test_entry_points_of_other_groups_are_left_alone(install):
    install("acme", "raise SystemExit('imported')", group="zconfig.other")

    assert plugin_readings({}) == ()


def test_names_of_others_are_passed_over_and_their_values_not_asked_for(install):
    install(
        "acme",
        """
        from collections.abc import Mapping

        class Lazy(Mapping):
            asked = []
            def __iter__(self):
                return iter(["PATH", "ZILLIZ_URI", "zconfig_strict", "MY_ZILLIZ_URI"])
            def __len__(self):
                return 4
            def __getitem__(self, name):
                self.asked.append(name)
                return "1"

        def read(environ):
            return Lazy()
        """,
    )

    assert keys(plugin_readings({})[0]) == {"ZILLIZ_URI": "1", "ZCONFIG_STRICT": "1"}
    assert sys.modules["acme"].Lazy.asked == ["ZILLIZ_URI", "zconfig_strict"]


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        (f"def read(environ): raise ValueError({SECRET!r})", "ValueError"),
        (f"raise RuntimeError({SECRET!r})", "RuntimeError"),
        (f"def read(environ): raise SystemExit({SECRET!r})", "SystemExit"),
        (
            """
            class E(Exception):
                response = {"Error": {"Code": "a b\\n::error::c"}}
            def read(environ): raise E
            """,
            "E",
        ),
        ("import no_such_module_of_acme", "ModuleNotFoundError"),
        ("other = 1", "AttributeError"),
        ("read = 1", "TypeError"),
        (returning("None"), "it returned NoneType, not a mapping"),
        (returning(f"[{SECRET!r}]"), "it returned list, not a mapping"),
        (returning(f"{{1: {SECRET!r}}}"), "TypeError"),
    ],
)
def test_a_plugin_that_fails_is_one_problem_and_the_others_are_read(install, source, cause):
    install("broken", source, name="acme")
    install("sound", returning("{'ZILLIZ_URI': 'x'}"), name="zeta")

    failed, sound = plugin_readings({})
    [problem] = failed.problems
    assert (failed.name, failed.entries) == ("plugin acme", ())
    assert (problem.code, problem.severity, problem.alias) == ("plugin_failed", "error", None)
    assert str(problem) == (
        f"zconfig.sources (plugin acme): could not be read ({cause}); "
        "fix or uninstall the package that provides broken:read"
    )
    assert keys(sound) == {"ZILLIZ_URI": "x"}


def test_a_plugin_that_does_not_answer_is_given_up_and_the_others_are_read(install, monkeypatch):
    install("silent", "import threading\nover = threading.Event()\ndef read(_): over.wait()\n")
    install("sound", returning("{'ZILLIZ_URI': 'x'}"))
    monkeypatch.setattr("zconfig._sources.remote.LIMIT_S", 0.3)

    silent, sound = plugin_readings({})
    sys.modules["silent"].over.set()
    [problem] = silent.problems
    assert (problem.code, problem.message) == (
        "plugin_failed",
        "could not be read (no answer in 0.3 s)",
    )
    assert keys(sound) == {"ZILLIZ_URI": "x"}


def test_an_option_of_a_plugin_is_too_late(install, tmp_path):
    install("acme", returning("{'ZCONFIG_PROFILE': 'ci', 'ZILLIZ_URI': 'http://db'}"))

    configuration = load({}, tmp_path, system_secrets=str(tmp_path / "none"))
    [problem] = configuration.problems
    assert (problem.code, problem.severity) == ("option_too_late", "warning")
    assert str(problem) == (
        "ZCONFIG_PROFILE (plugin acme): has no effect here: it is needed before this source is "
        "read; set it in the environment, or in a .env file"
    )
    assert list(configuration.aliases) == ["default"]


def test_a_value_that_is_no_string_is_a_problem_and_the_others_are_read(install):
    install("acme", returning(f"{{'ZILLIZ_TOKEN': {SECRET.encode()!r}, 'ZILLIZ_URI': 'x'}}"))

    [reading] = plugin_readings({})
    [problem] = reading.problems
    assert keys(reading) == {"ZILLIZ_URI": "x"}
    assert (problem.code, problem.origin.key) == ("not_text", "ZILLIZ_TOKEN")
    assert SECRET not in str(problem)


def test_names_and_values_of_an_enumeration_are_texts(install):
    install(
        "acme",
        """
        from enum import Enum

        class Names(str, Enum):
            URI = "ZILLIZ_URI"
            SERVER = "http://db"

        def read(environ):
            return {Names.URI: Names.SERVER}
        """,
    )

    [reading] = plugin_readings({})
    assert keys(reading) == {"ZILLIZ_URI": "http://db"}
    assert str(reading.entries[0].origin) == "ZILLIZ_URI (plugin acme)"


@pytest.mark.parametrize("value", [None, 1, True, b"x", ["x"], "a\0b", "\ud800"])
def test_what_is_no_text_is_no_value(value):
    reading = read_mapping({"ZILLIZ_TOKEN": value}, source="x")

    assert (reading.entries, len(reading.problems)) == ((), 1)


@pytest.mark.parametrize(
    ("stored", "value"),
    [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a\r", "a\r"), (" a ", " a "), ("\n", "")],
)
def test_one_trailing_line_end_of_a_value_is_stripped(stored, value):
    assert read_mapping({"ZILLIZ_TOKEN": stored}, source="x").entries[0].value == value


def test_a_name_that_would_disturb_a_terminal_is_escaped():
    [entry] = read_mapping({"zilliz-\x1b[31m": "x"}, source="x").entries

    assert repr(entry).isprintable()
    assert str(entry.origin).isprintable()


def test_a_plugin_is_read_on_the_first_use_and_not_by_an_import(install, tmp_path):
    install("acme", returning("{'ZILLIZ_PROD_URI': 'http://127.0.0.1:1'}"))

    done = run_python(
        f"import sys; sys.path.insert(0, {str(tmp_path / 'acme')!r})\n"
        "import zconfig\n"
        "print('acme' in sys.modules, repr(zconfig.connections))\n"
        "print(list(zconfig.connections), 'acme' in sys.modules)"
    )
    assert done.stdout.splitlines() == ["False <Connections {}>", "['prod'] True"]


def test_what_may_need_the_network_is_left_alone_if_one_says_so(install, tmp_path):
    install("acme", "raise SystemExit('imported')")

    environ = {"ZCONFIG_AWS_SECRET": "prod"}
    none = str(tmp_path / "none")
    assert load(environ, tmp_path, system_secrets=none, remote=False).problems == ()


def test_a_plugin_is_not_even_loaded_by_an_import_of_its_room(install, tmp_path):
    install("acme", "raise SystemExit('imported')")

    assert [each.name for each in entry_points(group=GROUP)] == ["acme"]
    done = run_python(
        f"import sys; sys.path.insert(0, {str(tmp_path / 'acme')!r})\n"
        "import zconfig._sources.remote\n"
        "print('acme' in sys.modules)"
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


# --- the page docs/how-to/source.md -----------------------------------------------------------


def install_project(project, target):
    """Install a package as pip would: its module, and a dist-info with its entry points."""
    declared = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    name, version = declared["name"].replace("-", "_"), declared["version"]
    info = target / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    shutil.copy(project / f"{name}.py", target)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    for group, points in declared["entry-points"].items():
        lines = [f"[{group}]", *(f"{point} = {where}" for point, where in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines))


def test_the_package_of_the_page_is_installed_and_read_as_the_page_says(tmp_path):
    page = REPOSITORY / "docs" / "how-to" / "source.md"
    with TopologyCache(tmp_path, {}) as shell:
        for block in blocks_of(page):
            if block.title:
                shell.write(block)
        install_project(tmp_path / "acme-vault", tmp_path / "site")
        shell.run(f'export PYTHONPATH="{tmp_path / "site"}:$PYTHONPATH"')
        run = {"zconfig", "python", "printf", "grep", "export"}
        follow(page, shell, run=run, not_run={"pip"})
