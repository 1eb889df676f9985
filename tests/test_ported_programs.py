"""Nine programs as people have them, and the few lines by which each moves over to zconfig."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.faults import refused
from tests.support.processes import run
from zconfig.testing import FakeServer, fake_server

MOST_LINES = 4
USER, PASSWORD, KEY = "root", "Milvus", "an-api-key"
CREDENTIALS = f"{USER}:{PASSWORD}"


@dataclass(frozen=True)
class Program:
    """A program, and how it moves over.

    Args:
        before: Its source. It asks for the databases, or for what is in a new file of Milvus Lite.
        changes: Pieces of it, and what stands there afterwards; nothing else changes.
        environ: Its environment; `{uri}`, `{host}` and `{port}` are the server's.
        files: Files in its directory; likewise.
        token: What the server is to be told.
        db_name: Likewise.
    """

    before: str
    changes: Mapping[str, str]
    environ: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    token: str = CREDENTIALS
    db_name: str = "default"

    @property
    def after(self) -> str:
        source = self.before
        for old, new in self.changes.items():
            assert source.count(old) == 1, old
            source = source.replace(old, new)
        return source

    def environ_for(self, uri: str) -> dict[str, str]:
        return {name: filled(value, uri) for name, value in self.environ.items()}


def filled(text: str, uri: str) -> str:
    host, _, port = uri.removeprefix("http://").partition(":")
    return text.format(uri=uri, host=host, port=port)


def source(text: str) -> str:
    return dedent(text).lstrip("\n")


ORM_SERVICE = Program(
    before=source("""
        from pydantic_settings import BaseSettings
        from pymilvus import MilvusException, connections, db


        class Settings(BaseSettings):
            milvus_host: str = "localhost"
            milvus_port: int = 19530
            milvus_user: str = ""
            milvus_password: str = ""


        settings = Settings()
        degraded = False
        try:
            connections.connect(
                "default",
                host=settings.milvus_host,
                port=settings.milvus_port,
                user=settings.milvus_user,
                password=settings.milvus_password,
                timeout=1,
            )
        except MilvusException:
            degraded = True
        print("degraded" if degraded else db.list_database())
    """),
    changes={
        "import BaseSettings\n": "import BaseSettings\nimport zconfig\n",
        "    connections.connect(": "    zconfig.connections.connect(",
        "    )\nexcept MilvusException:": (
            '    )\n    zconfig.interop.pymilvus.install("default")\nexcept zconfig.ZConfigError:'
        ),
    },
    environ={
        "MILVUS_HOST": "{host}",
        "MILVUS_PORT": "{port}",
        "MILVUS_USER": USER,
        "MILVUS_PASSWORD": PASSWORD,
    },
)

FASTAPI_LIFESPAN = Program(
    before=source("""
        import asyncio
        import os
        from contextlib import asynccontextmanager

        from fastapi import FastAPI
        from pymilvus import MilvusClient

        ENDPOINT = os.getenv("ZILLIZ_ENDPOINT")
        API_KEY = os.getenv("ZILLIZ_API_KEY")


        @asynccontextmanager
        async def lifespan(app: FastAPI):
            app.state.client = None
            if ENDPOINT and API_KEY:
                app.state.client = MilvusClient(uri=ENDPOINT, token=API_KEY)
            yield


        async def main() -> None:
            app = FastAPI(lifespan=lifespan)
            async with lifespan(app):
                print(app.state.client and app.state.client.list_databases())


        asyncio.run(main())
    """),
    changes={
        "import os\n": "",
        "from pymilvus import MilvusClient\n": "import zconfig\n",
        'ENDPOINT = os.getenv("ZILLIZ_ENDPOINT")\nAPI_KEY = os.getenv("ZILLIZ_API_KEY")\n\n': "",
        "if ENDPOINT and API_KEY:": 'if "default" in zconfig.connections:',
        "MilvusClient(uri=ENDPOINT, token=API_KEY)": "zconfig.client()",
    },
    environ={"ZILLIZ_ENDPOINT": "{uri}", "ZILLIZ_API_KEY": KEY},
    token=KEY,
)

LOAD_DOTENV = Program(
    before=source("""
        import os

        from dotenv import load_dotenv
        from pymilvus import MilvusClient

        load_dotenv("settings/local.env")
        client = MilvusClient(uri=os.environ["MILVUS_URI"], token=os.environ["MILVUS_TOKEN"])
        print(client.list_databases())
    """),
    changes={
        "from pymilvus import MilvusClient": "import zconfig",
        'MilvusClient(uri=os.environ["MILVUS_URI"], token=os.environ["MILVUS_TOKEN"])': (
            "zconfig.client()"
        ),
    },
    files={"settings/local.env": f"MILVUS_URI={{uri}}\nMILVUS_TOKEN={CREDENTIALS}\n"},
)

VECTOR_STORE = Program(
    before=source("""
        import os

        from pymilvus import MilvusClient


        class VectorStore:
            def __init__(self, connection_args: dict) -> None:
                self.client = MilvusClient(**connection_args)


        store = VectorStore(
            connection_args={
                "uri": os.environ["ZILLIZ_CLOUD_URI"],
                "user": os.environ["ZILLIZ_CLOUD_USERNAME"],
                "password": os.environ["ZILLIZ_CLOUD_PASSWORD"],
            },
        )
        print(store.client.list_databases())
    """),
    changes={
        "import os\n": "import zconfig\n",
        """connection_args={
        "uri": os.environ["ZILLIZ_CLOUD_URI"],
        "user": os.environ["ZILLIZ_CLOUD_USERNAME"],
        "password": os.environ["ZILLIZ_CLOUD_PASSWORD"],
    },""": "connection_args=zconfig.connection_args(),",
    },
    environ={
        "ZILLIZ_CLOUD_URI": "{uri}",
        "ZILLIZ_CLOUD_USERNAME": USER,
        "ZILLIZ_CLOUD_PASSWORD": PASSWORD,
    },
)

ALIAS_A_CALL = Program(
    before=source("""
        import os
        from pathlib import Path
        from uuid import uuid4

        from pymilvus import connections, db


        def fetch_parameters() -> None:
            for line in Path("parameters").read_text().splitlines():
                name, _, value = line.partition(" ")
                os.environ[name] = value


        def databases() -> list[str]:
            alias = f"conn_{uuid4().hex}"
            connections.connect(
                alias, uri=os.environ["ZILLIZ_URI"], token=os.environ["ZILLIZ_TOKEN"]
            )
            try:
                return db.list_database(using=alias)
            finally:
                connections.disconnect(alias)


        fetch_parameters()
        print(databases())
    """),
    changes={
        "from uuid import uuid4\n": "",
        "from pymilvus import connections, db\n": "import zconfig\n",
        """    alias = f"conn_{uuid4().hex}"
    connections.connect(
        alias, uri=os.environ["ZILLIZ_URI"], token=os.environ["ZILLIZ_TOKEN"]
    )
    try:
        return db.list_database(using=alias)
    finally:
        connections.disconnect(alias)
""": "    return zconfig.client().list_databases()\n",
    },
    files={"parameters": f"ZILLIZ_URI {{uri}}\nZILLIZ_TOKEN {CREDENTIALS}\n"},
)

HOST_AND_PORT = Program(
    before=source("""
        import os

        from pymilvus import connections, db

        connections.connect(
            host=os.environ["ZILLIZ_CLOUD_HOST"],
            port=os.environ["ZILLIZ_CLOUD_PORT"],
            user=os.environ["ZILLIZ_CLOUD_USER"],
            password=os.environ["ZILLIZ_CLOUD_PASSWORD"],
        )
        print(db.list_database())
    """),
    changes={
        "from pymilvus import connections, db\n": (
            "from pymilvus import db\n"
            "from zconfig import connections\n"
            "from zconfig.interop.pymilvus import install\n"
        ),
        ")\nprint": ")\ninstall()\nprint",
    },
    environ={
        "ZILLIZ_CLOUD_HOST": "{host}",
        "ZILLIZ_CLOUD_PORT": "{port}",
        "ZILLIZ_CLOUD_USER": USER,
        "ZILLIZ_CLOUD_PASSWORD": PASSWORD,
    },
)

FILE_BY_DEFAULT = Program(
    before=source("""
        import os
        from pathlib import Path

        from pymilvus import MilvusClient

        uri = os.getenv("ZILLIZ_CLOUD_URI")
        if not uri:
            Path("data").mkdir(exist_ok=True)
            uri = "data/local.db"
        client = MilvusClient(uri=uri, token=os.getenv("ZILLIZ_CLOUD_TOKEN", ""))
        print(client.list_databases() if "http" in str(uri) else client.list_collections())
    """),
    changes={
        "from pymilvus import MilvusClient\n": "import zconfig\n",
        "if not uri:": 'if "cloud" not in zconfig.connections:',
        '    uri = "data/local.db"\n': (
            '    zconfig.connections.add_connection(cloud={"uri": "data/local.db"})\n'
        ),
        'MilvusClient(uri=uri, token=os.getenv("ZILLIZ_CLOUD_TOKEN", ""))': (
            'zconfig.client("cloud")'
        ),
    },
    environ={"ZILLIZ_CLOUD_URI": "{uri}", "ZILLIZ_CLOUD_TOKEN": CREDENTIALS},
)

USER_AND_PASSWORD = Program(
    before=source("""
        import os

        from pymilvus import MilvusClient

        client = MilvusClient(
            uri=os.environ["MILVUS_URI"],
            user=os.environ["MILVUS_USER"],
            password=os.environ["MILVUS_PASSWORD"],
            db_name=os.environ["MILVUS_DB_NAME"],
        )
        print(client.list_databases())
    """),
    changes={
        "import os\n": "",
        "from pymilvus import MilvusClient\n": "import zconfig\n",
        """client = MilvusClient(
    uri=os.environ["MILVUS_URI"],
    user=os.environ["MILVUS_USER"],
    password=os.environ["MILVUS_PASSWORD"],
    db_name=os.environ["MILVUS_DB_NAME"],
)
""": "client = zconfig.client()\n",
    },
    environ={
        "MILVUS_URI": "{uri}",
        "MILVUS_USER": USER,
        "MILVUS_PASSWORD": PASSWORD,
        "MILVUS_DB_NAME": "sales",
    },
    db_name="sales",
)

ENDPOINT_OF_ANOTHER_NAME = Program(
    before=source("""
        import os

        from pymilvus import MilvusClient

        client = MilvusClient(
            uri=os.environ["ZILLIZ_CLUSTER_ENDPOINT"], token=os.environ["ZILLIZ_TOKEN"]
        )
        print(client.list_databases())
    """),
    changes={
        "from pymilvus import MilvusClient\n": "import zconfig\n",
        """client = MilvusClient(
    uri=os.environ["ZILLIZ_CLUSTER_ENDPOINT"], token=os.environ["ZILLIZ_TOKEN"]
)
""": (
            'zconfig.connections.connect("cluster", token=os.environ["ZILLIZ_TOKEN"])\n'
            'client = zconfig.client("cluster")\n'
        ),
    },
    environ={"ZILLIZ_CLUSTER_ENDPOINT": "{uri}", "ZILLIZ_TOKEN": KEY},
    token=KEY,
)

PROGRAMS = {
    "ORM service that degrades": ORM_SERVICE,
    "FastAPI lifespan": FASTAPI_LIFESPAN,
    "load_dotenv after the imports": LOAD_DOTENV,
    "arguments of a vector store": VECTOR_STORE,
    "secrets fetched at run time, an alias a call": ALIAS_A_CALL,
    "host and port": HOST_AND_PORT,
    "file by default": FILE_BY_DEFAULT,
    "user and password": USER_AND_PASSWORD,
    "endpoint of another name": ENDPOINT_OF_ANOTHER_NAME,
}
EACH = pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)


# --- a process for each, without the price of an import each ----------------------------------


# Other people's packages are imported once. Each program runs in a child, which imports zconfig and
# ends as any interpreter does.
@dataclass(frozen=True)
class Runner:
    """Runs programs with one Python."""

    python: Path

    def run(self, program: str, environ: Mapping[str, str], directory: Path) -> str:
        """Run one, and return what it printed."""
        command = [str(self.python), "-W", "ignore", "-c", program]
        done = run(command, environ=environ, directory=directory)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def runner(programs: Path) -> Runner:
    return Runner(programs / "python")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as server:
        server.accept(CREDENTIALS, KEY)
        yield server


# --- the tests --------------------------------------------------------------------------------


@EACH
def test_at_most_four_lines_are_written(program: Program) -> None:
    lines = difflib.ndiff(program.before.splitlines(), program.after.splitlines())
    written = [line for line in lines if line.startswith("+ ") and line.strip() != "+"]
    assert 0 < len(written) <= MOST_LINES, written


@EACH
def test_it_does_the_same_before_and_after(
    program: Program, runner: Runner, server: FakeServer, tmp_path: Path
) -> None:
    for name, text in program.files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(filled(text, server.uri))
    environ = program.environ_for(server.uri)
    printed = [runner.run(each, environ, tmp_path) for each in (program.before, program.after)]
    assert printed == ["['default']\n"] * 2
    calls = server.calls("ListDatabases")
    assert [(call.token, call.metadata.get("dbname") or "default") for call in calls] == [
        (program.token, program.db_name)
    ] * 2


def test_a_service_whose_server_is_away_degrades(runner: Runner, tmp_path: Path) -> None:
    with refused() as port:
        environ = ORM_SERVICE.environ_for(f"http://127.0.0.1:{port}")
        for each in (ORM_SERVICE.before, ORM_SERVICE.after):
            assert runner.run(each, environ, tmp_path) == "degraded\n"


def test_without_a_variable_it_has_no_client(runner: Runner, tmp_path: Path) -> None:
    for each in (FASTAPI_LIFESPAN.before, FASTAPI_LIFESPAN.after):
        assert runner.run(each, {}, tmp_path) == "None\n"


def test_without_a_variable_it_makes_a_file(runner: Runner, tmp_path: Path) -> None:
    for name in ("before", "after"):
        directory = tmp_path / name
        directory.mkdir()
        assert runner.run(getattr(FILE_BY_DEFAULT, name), {}, directory) == "[]\n"
        assert (directory / "data" / "local.db").exists()
