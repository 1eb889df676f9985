"""Other people's versions: each environment here has what an application may bring beside us.

    nox -s interop                          # pymilvus 2.4 to 3.0, with the oldest and newest gRPC
    nox -s 'interop(pymilvus-2.4-oldest)'   # one of them
    nox -s frameworks                       # LangChain, LlamaIndex and Haystack
    nox -s lowest                           # the lowest versions of what we depend on
    nox -t ci-interop ci-frameworks         # those that every change is tested with
    nox -s interop -- -m 'not long'         # what follows `--` is pytest's

Environments are made in `.nox`; `-R` uses them again without installing anything.
"""

from __future__ import annotations

from dataclasses import dataclass

import nox

nox.needs_version = ">=2024.10"
nox.options.sessions = ["interop", "frameworks", "lowest"]
nox.options.error_on_missing_interpreters = True

PROJECT = nox.project.load_toml("pyproject.toml")
TESTS = nox.project.dependency_groups(PROJECT, "interop")
LITE = ("milvus-lite>=3.0",)

# They import `pkg_resources`, and do not say that setuptools 81 took it away.
PKG_RESOURCES = ("setuptools<81",)


@dataclass(frozen=True)
class Cell:
    """A pymilvus with a gRPC and a protobuf that it admits, and we do.

    Args:
        pymilvus: Its version.
        grpcio: Which gRPC; empty for the newest that pymilvus admits.
        protobuf: Which protobuf; likewise.
        besides: What else it needs, or can make use of.
        tags: `ci-interop` for those that every change is tested with.
    """

    pymilvus: str
    grpcio: str = ""
    protobuf: str = ""
    besides: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def requirements(self) -> tuple[str, ...]:
        """What to install."""
        return (
            f"pymilvus=={self.pymilvus}",
            f"grpcio{self.grpcio}",
            f"protobuf{self.protobuf}",
            *self.besides,
        )


IN_CI = ("ci-interop",)

# We need grpcio 1.60. Milvus Lite 3 serves pymilvus' messages, from 2.6.1 on.
CELLS = {
    "pymilvus-2.4-oldest": Cell(
        "2.4.0", "==1.60.0", "==3.20.3", (*PKG_RESOURCES, "marshmallow<4"), IN_CI
    ),
    "pymilvus-2.4-newest": Cell("2.4.15", besides=PKG_RESOURCES),
    "pymilvus-2.5-oldest": Cell("2.5.0", "==1.60.0", "==3.20.3", PKG_RESOURCES),
    "pymilvus-2.5-newest": Cell("2.5.18", tags=IN_CI),
    "pymilvus-2.6-oldest": Cell("2.6.0", "==1.66.2", "==5.27.2", tags=IN_CI),
    "pymilvus-2.6-oldest-lite": Cell("2.6.1", "==1.66.2", "==5.27.2", LITE),
    "pymilvus-2.6-newest": Cell("2.6.17", besides=LITE),
    "pymilvus-3.0-oldest": Cell("3.0.0", "==1.66.2", "==5.27.2", LITE),
    "pymilvus-3.0-newest": Cell("3.0.2", besides=LITE),
}
# Which frameworks an environment can have together, by the pymilvus that they want.
FRAMEWORKS = {
    "pymilvus-2.6": ("llamaindex",),
    "pymilvus-3": ("langchain", "haystack"),
}


@nox.session
@nox.parametrize("cell", [nox.param(cell, id=name, tags=cell.tags) for name, cell in CELLS.items()])
def interop(session: nox.Session, cell: Cell) -> None:
    """Test pymilvus clients and its ORM on our channels."""
    install(session, ".", *TESTS, *cell.requirements)
    run_tests(session, "tests/interop/test_pymilvus.py", "tests/interop/test_pymilvus_clients.py")


@nox.session
@nox.parametrize(
    "names",
    [nox.param(names, id=name, tags=["ci-frameworks"]) for name, names in FRAMEWORKS.items()],
)
def frameworks(session: nox.Session, names: tuple[str, ...]) -> None:
    """Test the vector stores of frameworks, with the pymilvus that they want."""
    install(session, f".[{','.join(names)}]", *TESTS, *LITE)
    run_tests(session, *(f"tests/interop/test_{name}.py" for name in names))


@nox.session
def lowest(session: nox.Session) -> None:
    """Test with the lowest versions of what we depend on."""
    requirements = PROJECT["project"]["dependencies"]
    install(session, ".", *TESTS, *(each.replace(">=", "==") for each in requirements))
    session.run("python", "-c", "import zconfig, zconfig._cli")
    run_tests(session, "tests/test_load.py", "tests/test_connect_real.py", "tests/test_import.py")


def install(session: nox.Session, project: str, *requirements: str) -> None:
    """Install us and others; most of what they bring is never imported, so it is not compiled."""
    session.install("--no-compile", "--editable", project, *requirements)


def run_tests(session: nox.Session, *paths: str) -> None:
    """Run tests; what other people's old packages warn of is theirs."""
    session.run("python", "-m", "pytest", "-W", "default", *(session.posargs or ()), *paths)
