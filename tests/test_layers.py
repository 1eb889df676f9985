"""The rooms of the design, held from the code's own imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from zconfig._registry.forks import LATE, LATE_WITH_GRPC

PACKAGE = Path(__file__).resolve().parents[1] / "zconfig"

# Top to bottom: a room imports only from rooms above it, or from itself.
ROOMS = (
    {"_paths", "_redaction", "_deadline", "_version"},
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

# What a room may import besides the standard library and the rooms above it.
OUTSIDE = {
    "_sources": {"dotenv", "pydantic_settings", "azure", "google"},
    "_settings": {"pydantic", "pydantic_core", "pydantic_settings"},
    "_channel": {
        "grpc",
        "milvus_lite",
        "pymilvus",
        "dotenv",
    },  # dotenv: shielded while pymilvus loads
    "_diagnosis": {"grpc"},
    "_topology": {"grpc"},
    "_connection": {"grpc"},
    "aio": {"grpc"},
    "_log": {"structlog"},
    "_cli": {"click", "rich"},
    "interop": {"pymilvus"},
    "": {"pymilvus"},  # for types alone
    "testing": {"pytest", "grpc"},
    "otel": {"opentelemetry"},
}
STANDARD_LIBRARY = __import__("sys").stdlib_module_names

MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(module: Path) -> str:
    first = module.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imports_of(module: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            if node.module == "zconfig":
                found |= {f"zconfig.{alias.name}" for alias in node.names}
            else:
                found.add(node.module or "")
    return found


def test_every_module_stands_in_a_room() -> None:
    assert {room_of(module) for module in MODULES} <= FLOOR.keys()


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_a_room_imports_only_from_rooms_above_it(module: Path) -> None:
    own = room_of(module)
    own_rooms = {name.split(".")[1] for name in imports_of(module) if name.startswith("zconfig.")}
    wrong = {room for room in own_rooms if room != own and FLOOR[room] >= FLOOR[own]}
    assert not wrong


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_a_room_imports_no_library_but_its_own(module: Path) -> None:
    outside = {name.split(".")[0] for name in imports_of(module)} - {"zconfig"}
    assert outside <= STANDARD_LIBRARY | OUTSIDE.get(room_of(module), set())


def test_the_environment_of_the_process_is_read_in_one_place() -> None:
    readers = [m.name for m in MODULES if {"os.environ", "os.getenv"} & attributes_of(m)]
    assert readers == ["environment.py"]


def attributes_of(module: Path) -> set[str]:
    tree = ast.walk(ast.parse(module.read_text(encoding="utf-8")))
    return {ast.unparse(node) for node in tree if isinstance(node, ast.Attribute)}


def test_the_check_of_the_rooms_sees_imports_inside_functions(tmp_path: Path) -> None:
    module = tmp_path / "x.py"
    module.write_text("def f():\n    from zconfig._cli import main\n", encoding="utf-8")
    assert imports_of(module) == {"zconfig._cli"}


def imported_late(path: Path) -> set[str]:
    """Return the modules of ours that functions import."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)]
    found = set()
    for each in (inner for function in functions for inner in ast.walk(function)):
        if isinstance(each, ast.ImportFrom) and each.module == "zconfig":
            found |= {f"zconfig.{alias.name}" for alias in each.names}
        elif isinstance(each, ast.ImportFrom) and (each.module or "").startswith("zconfig."):
            found.add(each.module or "")
    return found


def test_what_is_imported_late_is_imported_before_a_fork() -> None:
    rooms = ("_sources", "_settings", "_connection", "_registry")
    paths = [path for room in rooms for path in (PACKAGE / room).rglob("*.py")]
    late = {name for path in (*paths, PACKAGE / "_log.py") for name in imported_late(path)}
    # By `import_grpc`, which a fork waits for.
    by_another_way = {"zconfig._connection", "zconfig._connection.event_factories"}
    assert late - by_another_way == {
        name for name in (*LATE, *LATE_WITH_GRPC) if name.startswith("zconfig.")
    }
