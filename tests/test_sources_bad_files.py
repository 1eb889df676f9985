"""Every source that reads files, and every file that is not what it should be."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import pytest

from tests.test_sources_files import nobody, open_directory
from zconfig.settings.configuration import Configuration
from zconfig.settings.load import load

__all__ = ["open_directory"]  # a fixture

TOKEN = "s3cret-pa55"
URIS = {"ZILLIZ_BAD_URI": "http://db", "ZILLIZ_GOOD_URI": "http://db"}


@dataclass(frozen=True)
class Source:
    """Where the token of the alias `bad` stands.

    Args:
        file: The file it is read from.
        environ: What makes the source read it.
        is_dotenv: Whether the file holds variables, and not the token alone.
    """

    file: Path
    environ: dict[str, str]
    is_dotenv: bool = False


def dotenv(directory: Path) -> Source:
    return Source(directory / ".env", {}, is_dotenv=True)


def file_form(directory: Path) -> Source:
    file = directory / "token"
    return Source(file, {"ZILLIZ_BAD_TOKEN_FILE": str(file)})


def secrets_directory(directory: Path) -> Source:
    return Source(make(directory / "secrets") / "zilliz_bad_token", secrets_of(directory))


def nested_secrets_directory(directory: Path) -> Source:
    return Source(make(make(directory / "secrets") / "bad") / "token", secrets_of(directory))


def service_binding(directory: Path) -> Source:
    binding = make(make(directory / "bindings") / "bad")
    (binding / "type").write_text("milvus")
    (binding / "type").chmod(0o444)
    return Source(binding / "token", {"SERVICE_BINDING_ROOT": str(directory / "bindings")})


def secrets_of(directory: Path) -> dict[str, str]:
    return {"ZCONFIG_SECRETS_DIR": str(directory / "secrets")}


def make(directory: Path) -> Path:
    directory.mkdir()
    directory.chmod(0o755)
    return directory


SOURCES = [dotenv, file_form, secrets_directory, nested_secrets_directory, service_binding]


def write(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    file.chmod(0o600)


def fifo(file: Path, _: bytes) -> None:
    os.mkfifo(file)


def directory(file: Path, _: bytes) -> None:
    file.mkdir()


def huge(file: Path, content: bytes) -> None:
    write(file, content)
    os.truncate(file, 200 * 1024 * 1024)


def binary(file: Path, content: bytes) -> None:
    write(file, content + b"\x00\xff\xfe")


def utf_16(file: Path, content: bytes) -> None:
    write(file, content.decode().encode("utf-16"))


def byte_order_mark(file: Path, content: bytes) -> None:
    write(file, b"\xef\xbb\xbf" + content)


def line_ends_of_windows(file: Path, content: bytes) -> None:
    write(file, content.replace(b"\n", b"\r\n"))


def unbalanced_quote(file: Path, content: bytes) -> None:
    write(file, content.replace(TOKEN.encode(), b'"' + TOKEN.encode()))


def world_writable(file: Path, content: bytes) -> None:
    write(file, content)
    file.chmod(0o666)


def unreadable(file: Path, content: bytes) -> None:
    write(file, content)
    file.chmod(0o000)


def loop(file: Path, _: bytes) -> None:
    file.symlink_to(file.name)


def link_that_leaves(file: Path, content: bytes) -> None:
    app = next(parent for parent in file.parents if parent.name == "app")
    outside = make(app.parent / "outside")
    write(outside / "file", content)
    file.symlink_to(outside / "file")


FILES: list[tuple[Callable[[Path, bytes], None], str | None]] = [
    (fifo, "not_regular"),
    (directory, "not_regular"),
    (huge, "too_large"),
    (binary, "not_text"),
    (utf_16, "not_text"),
    (byte_order_mark, None),
    (line_ends_of_windows, None),
    (unbalanced_quote, "unbalanced_quote"),
    (world_writable, "world_writable"),
    (unreadable, "unreadable"),
    (loop, "loop"),
    (link_that_leaves, "outside_directory"),
]


def expected(source: Source, code: str | None) -> str | None:
    """What is a mistake in one kind of file need not be one in another."""
    may_have_quotes = not source.is_dotenv
    may_lead_anywhere = source.is_dotenv or "ZILLIZ_BAD_TOKEN_FILE" in source.environ
    if (code == "unbalanced_quote" and may_have_quotes) or (
        code == "outside_directory" and may_lead_anywhere
    ):
        return None
    return code


def read(environ: dict[str, str], directory: Path) -> Configuration:
    """Read the configuration in a thread, so that it cannot make the test hang."""
    answers: queue.SimpleQueue[Configuration] = queue.SimpleQueue()
    none = str(directory / "none")
    Thread(
        target=lambda: answers.put(load(environ, directory, system_secrets=none)), daemon=True
    ).start()
    return answers.get(timeout=20)


@pytest.mark.parametrize(("spoil", "code"), FILES, ids=[spoil.__name__ for spoil, _ in FILES])
@pytest.mark.parametrize("place", SOURCES)
def test_a_bad_file_is_one_problem_that_names_it_and_costs_no_other_alias(
    open_directory: Path,
    place: Callable[[Path], Source],
    spoil: Callable[[Path, bytes], None],
    code: str | None,
) -> None:
    source = place(make(open_directory / "app"))
    line = f"ZILLIZ_BAD_TOKEN={TOKEN}\nOTHER=1\n" if source.is_dotenv else f"{TOKEN}\n"
    spoil(source.file, line.encode())

    with nobody() if spoil is unreadable else nullcontext():
        configuration = read({**URIS, **source.environ}, open_directory / "app")

    assert "good" in configuration.aliases
    code = expected(source, code)
    if code is None:
        token = configuration.aliases["bad"].token
        assert configuration.problems == ()
        assert token is not None
        assert token.get_secret_value().strip('"') == TOKEN
        return
    [problem] = configuration.problems
    assert (problem.code, problem.severity) == (code, "error")
    assert str(source.file.name if source.is_dotenv else source.file) in str(problem)
    assert TOKEN not in str(problem)
    assert problem in configuration.errors_required
    assert source.is_dotenv or "bad" not in configuration.aliases
