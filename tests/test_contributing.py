"""CONTRIBUTING.md names what is there, and each of its recipes works on a copy of the package."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.test_layers import FLOOR

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PARAGRAPHS = [" ".join(each.split()) for each in re.split(r"\n\n|\n(?=\d\. |- |\| )", PAGE)]
TICKED = re.compile(r"`([^`]+)`")
DEFINED = re.compile(r"`([\w/]+\.py)`: `([\w.]+)`")


def is_path(text):
    """Tell whether something is a path of the repository; what `make` sets up is none."""
    return re.fullmatch(r"(?!\.venv)[\w.]+(/[\w.]+)*/[\w.]*", text) is not None


def paths_in(text):
    return [each for each in TICKED.findall(text) if is_path(each)]


def definitions(node, prefix=""):
    """Yield the names that a module or a class defines, those of classes with the class."""
    for each in node.body:
        if isinstance(each, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield prefix + each.name, each
        if isinstance(each, ast.ClassDef):
            yield from definitions(each, f"{prefix}{each.name}.")
        if isinstance(each, (ast.Assign, ast.AnnAssign)):
            targets = each.targets if isinstance(each, ast.Assign) else [each.target]
            yield from ((prefix + n.id, each) for n in targets if isinstance(n, ast.Name))


def definitions_in(path):
    return dict(definitions(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize("path", sorted(set(paths_in(PAGE))))
def test_every_path_of_the_page_exists(path):
    assert (ROOT / path).exists()


@pytest.mark.parametrize(
    ("path", "name"),
    sorted({(p, n) for text in PARAGRAPHS for p, n in DEFINED.findall(text)}),
)
def test_every_name_of_the_page_is_defined_where_it_says(path, name):
    assert name in definitions_in(ROOT / path)


@pytest.mark.parametrize("text", [text for text in PARAGRAPHS if DEFINED.search(text)])
def test_the_other_names_occur_in_the_file_before_them(text):
    ticked = TICKED.findall(text)
    path = ""
    for each in ticked:
        path = each if is_path(each) else path
        is_name = re.fullmatch(r"[A-Za-z_]\w+(\.[A-Za-z_]\w+)?", each)
        if path.endswith(".py") and is_name:
            source = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"\b{each.rpartition('.')[2]}\b", source), (each, path)


def test_the_map_has_every_room_from_top_to_bottom():
    paths = [path for text in PARAGRAPHS if text.startswith("| `") for path in paths_in(text)]
    rooms = [path.split("/")[1].removesuffix(".py").replace("__init__", "") for path in paths]
    assert sorted(rooms) == sorted(FLOOR.keys() - {"_version", "__main__"})
    assert [FLOOR[room] for room in rooms] == sorted(FLOOR[room] for room in rooms)


def test_the_refresh_and_the_loss_of_an_alias_are_found_at_a_glance():
    bold = re.findall(r"\*\*[^*]+\*\*", PAGE)
    assert [paths_in(each) for each in bold] == [
        ["zconfig/_connection/credentials.py"],
        ["zconfig/_connection/monitor.py"],
    ]


class Copy:
    """A copy of the package, which is changed where a recipe says."""

    def __init__(self, directory, recipe):
        self.directory = directory
        self.named = set(paths_in(section(recipe)))
        for name in ("zconfig", "scripts"):
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, directory / name, ignore=ignore)
        (directory / "docs").mkdir()

    def new(self, path, text):
        assert path.rpartition("/")[0] + "/" in self.named
        (self.directory / path).write_text(text, encoding="utf-8")

    def after(self, path, name, text):
        """Put text below what has a name."""
        self._insert(path, definitions_in(self.directory / path)[name].end_lineno, text)

    def into(self, path, name, text):
        """Put text above the last line of what has a name."""
        self._insert(path, definitions_in(self.directory / path)[name].end_lineno - 1, text)

    def replace(self, path, old, new):
        source = (self.directory / path).read_text(encoding="utf-8")
        assert path in self.named
        assert source.count(old) == 1
        (self.directory / path).write_text(source.replace(old, new), encoding="utf-8")

    def _insert(self, path, line, text):
        assert path in self.named
        lines = (self.directory / path).read_text(encoding="utf-8").splitlines(keepends=True)
        lines.insert(line, text)
        (self.directory / path).write_text("".join(lines), encoding="utf-8")

    def generate(self):
        self._run([str(self.directory / "scripts" / "generate.py")])

    def run(self, code):
        return json.loads(self._run(["-c", code]))

    def read(self, path):
        return (self.directory / path).read_text(encoding="utf-8")

    def _run(self, arguments):
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("ZILLIZ", "ZCONFIG"))}
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env={**environ, "PYTHONPATH": str(self.directory), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def section(title):
    titles = [*re.finditer(r"^## (.+)$", PAGE, re.MULTILINE)]
    return next(PAGE[a.end() : b.start()] for a, b in pairwise(titles) if a[1] == title)


FIELD = """
    compression: Annotated[
        bool,
        Variable(
            meaning="whether requests are compressed",
            expected="true or false",
            example="true",
        ),
    ] = False
"""


def test_a_field_is_added_as_the_page_says(tmp_path):
    copy = Copy(tmp_path, "Add a field")
    copy.after("zconfig/_settings/fields.py", "ConnectionSettings.pool_size", FIELD)
    copy.after("zconfig/_spec.py", "ConnectionSpec.pool_size", "    compression: bool = False\n")
    copy.into("zconfig/_spec.py", "to_spec", "        compression=settings.compression,\n")
    option = '(("grpc.default_compression_algorithm", 2),) if spec.compression else ()'
    copy.replace(
        "zconfig/_channel/channels.py", "return tuple(options)", f"return (*options, *({option}))"
    )
    copy.generate()
    assert "\n# ZILLIZ_COMPRESSION=true\n" in copy.read(".env.example")
    assert "### `ZILLIZ_COMPRESSION`" in copy.read("docs/variables.md")
    assert "ZILLIZ_COMPRESSION" in json.loads(copy.read("docs/schema.json"))["properties"]
    seen = copy.run("""
import json, os
os.environ.update(ZILLIZ_URI="http://db", ZILLIZ_COMPRESSION="true")
import zconfig
from zconfig._channel.channels import channel_options
[alias] = zconfig.explain().aliases
[field] = [each for each in alias.fields if each.field == "compression"]
zconfig.connections.add_connection(code={"uri": "http://db", "compression": True})
specs = [zconfig.connections.spec(each) for each in ("default", "code")]
print(json.dumps([field.value, str(field.origin), [dict(channel_options(s)) for s in specs]]))
""")
    assert seen[:2] == ["true", "ZILLIZ_COMPRESSION (environment)"]
    assert [each["grpc.default_compression_algorithm"] for each in seen[2]] == [2, 2]


OPTION = """
    {name}: Annotated[
        str | None,
        Variable(meaning="where to read", expected="a name", example="x"),
    ] = None
"""

MANAGER = """
@contextmanager
def _acme(vault: str) -> Iterator[Variables]:
    yield {f"zilliz-{vault}-uri": "http://acme"}

"""

ROW = """
    SecretManager(
        "Acme Vault",
        option="ZCONFIG_ACME_VAULT",
        package="acme",
        opened=_acme,
        remedies={},
        remedy="check the vault",
    ),
"""

MODULE = '''
import json
from pathlib import Path

from zconfig._origin import Origin
from zconfig._redaction import Secret
from zconfig._sources.base import Entry, SourceResult


def read_json_file(path: str) -> SourceResult:
    """Read variables from a JSON object."""
    found = json.loads(Path(path).read_text(encoding="utf-8"))
    entries = (Entry(key, Secret(found[key]), Origin("JSON file", key, path)) for key in found)
    return SourceResult(path, tuple(entries))
'''

CALL = """
    if read.options.json_file:
        from zconfig._sources.json_file import read_json_file

        yield read_json_file(anchored(read.options.json_file, directory))
"""


def test_sources_are_added_as_the_page_says(tmp_path):
    copy = Copy(tmp_path, "Add a source")
    options, remote = "zconfig/_settings/options.py", "zconfig/_sources/remote.py"
    for name in ("acme_vault", "json_file"):
        copy.after(options, "LoaderOptions.google_project", OPTION.format(name=name))
    copy.replace(options, '"google_project")', '"google_project", "acme_vault")')
    copy.into(remote, "SECRET_MANAGERS", ROW)
    copy.after(remote, "_google", MANAGER)
    copy.new("zconfig/_sources/json_file.py", MODULE)
    copy.after("zconfig/_settings/load.py", "_read_others", CALL)
    copy.into("zconfig/_registry/forks.py", "LATE", '    "zconfig._sources.json_file",\n')
    copy.generate()
    assert "# ZCONFIG_ACME_VAULT=x\n" in copy.read(".env.example")
    (tmp_path / "x.json").write_text('{"ZILLIZ_URI": "http://json"}')
    assert copy.run("""
import json, os
os.environ.update(ZCONFIG_ACME_VAULT="prod", ZCONFIG_JSON_FILE="x.json")
import zconfig
specs = [zconfig.connections.spec(alias) for alias in zconfig.connections]
print(json.dumps({each.alias: [each.endpoint.host, each.origin("uri").source] for each in specs}))
""") == {"default": ["json", "JSON file"], "prod": ["acme", "Acme Vault"]}


CAUSE = '''

class QuotaExceededError(UnreachableError):
    """The server has no quota left for us."""

    cause = "quota_exceeded"
    stage = Stage.MILVUS
    problem = "the quota is used up"
    remedy = "raise the quota of the cluster"
'''


def test_a_failure_cause_is_added_as_the_page_says(tmp_path):
    copy = Copy(tmp_path, "Add a failure cause")
    copy.after("zconfig/errors.py", "ServerNotReadyError", CAUSE)
    rules = "zconfig/_diagnosis/rules.py"
    copy.replace(rules, "    RefusedError,\n", "    QuotaExceededError,\n    RefusedError,\n")
    copy.into(rules, "_BY_CODE", "    grpc.StatusCode.RESOURCE_EXHAUSTED: QuotaExceededError,\n")
    copy.generate()
    section = "`QuotaExceededError`, transient, stage Milvus: the quota is used up."
    assert f"### `quota_exceeded`\n\n{section}" in copy.read("docs/errors.md")
    assert "`quota_exceeded`" in copy.read("docs/exit-codes.md")
    assert copy.run("""
import json
import grpc, zconfig
from zconfig.testing import fake_server
with fake_server() as server:
    server.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "slow down")
    try:
        zconfig.connections.connect("prod", uri=server.uri)
    except zconfig.ConnectError as error:
        print(json.dumps([type(error).__name__, error.exit_code, str(error)]))
""")[:2] == ["QuotaExceededError", 4]


COMMAND = '''
@value
class Hosts(Value):
    """Where each alias leads.

    Args:
        hosts: The host of each alias.
    """

    hosts: tuple[str, ...]


@click.command(epilog=epilog("zconfig hosts"))
@output("table", "json")
@pass_session
def hosts(session: Session, format_: Format) -> None:
    """Print the host of each alias."""
    connections = session.connections
    found = Hosts(tuple(str(connections.spec(alias).endpoint.host) for alias in connections))
    write(render_json(found) if format_ == "json" else "\\n".join(found.hosts))
'''


def test_a_command_is_added_as_the_page_says(tmp_path):
    copy = Copy(tmp_path, "Add a command")
    copy.after("zconfig/_cli/inspect.py", "list_", f"\n{COMMAND}")
    app, generate = "zconfig/_cli/app.py", "zconfig/_cli/generate.py"
    imports = "from zconfig._cli.inspect import "
    row = '    "hosts": ("inspect:hosts", "Print the host of each alias."),\n'
    copy.into(app, "COMMANDS", row)
    copy.replace(generate, imports, f"{imports}Hosts, ")
    copy.into(generate, "OF_COMMANDS", '    "hosts": Hosts,\n')
    help_, printed, schema = copy.run("""
import json, os
os.environ.update(ZILLIZ_URI="http://db")
from click.testing import CliRunner
from zconfig._cli.app import zconfig
runs = (["--help"], ["hosts", "--format", "json"], ["schema", "--of", "hosts"])
print(json.dumps([CliRunner().invoke(zconfig, each).stdout for each in runs]))
""")
    assert re.search(r"^  hosts +Print the host of each alias\.$", help_, re.MULTILINE)
    assert json.loads(printed) == {"hosts": ["db"]}
    assert json.loads(schema)["properties"]["hosts"]["description"] == "The host of each alias."
