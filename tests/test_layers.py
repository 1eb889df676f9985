"""The rooms of the design, held from the code's own imports."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from zconfig._registry.forks import LATE, LATE_WITH_GRPC

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "zconfig"

# Top to bottom: a room imports only from rooms above it, or from itself.
ROOMS = (
    {"_redaction", "_deadline", "_per_process", "_value", "_version"},
    {"_origin"},
    {"errors", "events", "_log_masking"},
    {"_event_bus"},
    {"_sources"},
    {"_endpoint"},
    {"_settings"},
    {"_spec"},
    {"_channel"},
    {"_diagnosis"},
    {"_topology"},
    {"_connection"},
    {"_registry"},
    {"aio"},
    {"_log"},
    {"interop", "testing", "health", "otel"},
    {"_cli"},
    {"", "__main__"},
)
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}

# What a room imports besides the standard library and the rooms above it.
OUTSIDE = {
    "_sources": {"dotenv", "pydantic_settings", "azure", "google"},
    "_settings": {"pydantic", "pydantic_core", "pydantic_settings"},
    "_channel": {"grpc", "milvus_lite", "dotenv"},  # dotenv: shielded while pymilvus loads
    "_diagnosis": {"grpc"},
    "_connection": {"grpc"},
    "aio": {"grpc"},
    "_log": {"structlog"},
    "_cli": {"click", "rich"},
    "interop": {"pymilvus"},
    "": {"pymilvus"},  # for types alone
    "testing": {"pytest", "grpc"},
    "otel": {"opentelemetry"},
}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


@cache
def trees() -> dict[str, ast.Module]:
    """Return the code of each module, by the module's name."""
    return {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports_in(tree: ast.AST) -> Iterator[str]:
    """Yield what is imported, also for types or inside functions; of us, the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            source = node.module or ""
            names = {f"{source}.{alias.name}" for alias in node.names}
            yield from (name if name in MODULES else source for name in names)


@cache
def imports() -> dict[str, set[str]]:
    """Return what each module imports but itself."""
    return {module: set(imports_in(tree)) - {module} for module, tree in trees().items()}


def own_imports() -> dict[str, set[str]]:
    """Return which modules of ours each module imports."""
    return {module: names & MODULES.keys() for module, names in imports().items()}


def test_every_module_stands_in_a_room() -> None:
    assert set(map(room_of, MODULES)) == FLOOR.keys()


def test_a_room_imports_only_from_rooms_above_it() -> None:
    wrong = {
        (module, name)
        for module, names in own_imports().items()
        for name in names - {"zconfig"}
        if room_of(name) != room_of(module) and FLOOR[room_of(name)] >= FLOOR[room_of(module)]
    }
    assert not wrong


def test_no_modules_import_each_other() -> None:
    # The package itself is what applications import: the fixtures for their tests do so, too.
    TopologicalSorter({m: names - {"zconfig"} for m, names in own_imports().items()}).prepare()


def test_a_room_imports_no_library_but_its_own() -> None:
    outside = defaultdict(set)
    for module, names in imports().items():
        outside[room_of(module)] |= {name.split(".")[0] for name in names} - {"zconfig"}
    libraries = {room: names - sys.stdlib_module_names for room, names in outside.items()}
    assert {room: names for room, names in libraries.items() if names} == OUTSIDE


def test_no_public_name_is_defined_twice() -> None:
    places = defaultdict(list)
    for module, tree in trees().items():
        for node in tree.body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                places[node.name].append(module)
    twice = {name: found for name, found in places.items() if len(set(found)) > 1}
    assert not {name: found for name, found in twice.items() if name[0] != "_"}


def test_the_reference_names_no_internal_path() -> None:
    pages = [*(ROOT / "docs" / "api").glob("*.md")]
    assert pages
    for page in pages:
        assert not re.findall(r"zconfig[\w.]*\._\w+", page.read_text(encoding="utf-8"))


def test_the_environment_of_the_process_is_read_in_one_place() -> None:
    readers = [
        m for m, tree in trees().items() if {"os.environ", "os.getenv"} & attributes_in(tree)
    ]
    assert readers == ["zconfig._sources.environment"]


def attributes_in(tree: ast.AST) -> set[str]:
    return {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def test_the_check_of_the_rooms_sees_imports_inside_functions() -> None:
    tree = ast.parse("def f():\n    from zconfig._cli import app\n    from zconfig import State\n")
    assert set(imports_in(tree)) == {"zconfig._cli.app", "zconfig"}


def imported_late(tree: ast.AST) -> set[str]:
    """Return the modules of ours that functions import."""
    functions = [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)]
    return {name for each in functions for name in imports_in(each) if name in MODULES}


def test_what_is_imported_late_is_imported_before_a_fork() -> None:
    rooms = {"_sources", "_settings", "_connection", "_registry", "_log"}
    found = [tree for module, tree in trees().items() if room_of(module) in rooms]
    late = {name for tree in found for name in imported_late(tree)}
    # By `import_grpc`, which a fork waits for.
    by_another_way = {"zconfig._connection", "zconfig._connection.event_factories"}
    assert late - by_another_way == {
        name for name in (*LATE, *LATE_WITH_GRPC) if name.startswith("zconfig.")
    }


def test_frozen_dataclasses_are_values_unless_they_are_compared_by_identity() -> None:
    """`dataclass` compiles each method for each class, which takes time in each cold start."""
    classes = [
        (node, ast.unparse(decorator))
        for tree in trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for decorator in node.decorator_list
    ]
    values = {node.name for node, decorator in classes if decorator.startswith("value")}
    compiled = {node.name: decorator for node, decorator in classes if "frozen=True" in decorator}
    assert len(values) > 50
    assert set(compiled) == {"BoundChannel", "Lease", "LoopBoundChannel"}
    assert all("eq=False, repr=False" in decorator for decorator in compiled.values())
