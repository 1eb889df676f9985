"""`zconfig list`, `explain` and `version`: commands that do not connect."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from dataclasses import field
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path

import click
from rich.table import Table
from rich.text import Text

from zconfig._cli.exit import finish, write, write_error
from zconfig._cli.options import (
    OFFLINE_CODES,
    Format,
    Session,
    complete_alias,
    epilog,
    output,
    pass_session,
)
from zconfig._cli.render import Part, draw, render, render_json
from zconfig._cli.report import list_aliases
from zconfig._cli.schemas import json_value
from zconfig._origin import printable
from zconfig._redaction import MASK
from zconfig._settings.explain import (
    AliasExplanation,
    Explanation,
    FieldExplanation,
    Shadowed,
)
from zconfig._value import Value, value
from zconfig._version import __version__
from zconfig.errors import ExitCode


@value
class Versions(Value):
    """The installed versions, read without importing the packages.

    Args:
        zconfig: Version of zconfig.
        python: Version of Python.
        grpcio: Version of gRPC.
        pymilvus: Version of pymilvus; `None` if it is not installed.
        milvus_lite: Version of Milvus Lite; `None` if it is not installed.
    """

    zconfig: str = __version__
    python: str = field(default_factory=platform.python_version)
    grpcio: str | None = field(default_factory=lambda: _installed("grpcio"))
    pymilvus: str | None = field(default_factory=lambda: _installed("pymilvus"))
    milvus_lite: str | None = field(default_factory=lambda: _installed("milvus-lite"))


def _installed(distribution: str) -> str | None:
    try:
        return version_of(distribution)
    except PackageNotFoundError:
        return None


def explanation_parts(explanation: Explanation) -> Iterator[Part]:
    """Yield the fields of each alias, then the notes, problems and files."""
    for alias in explanation.aliases:
        yield Text(alias.alias, style="bold")
        yield _fields(alias)
        yield from (Text(f"{each.severity}: {each}") for each in alias.problems)
        yield Text("")
    yield from (Text(f"{note.origin} {note.message}") for note in explanation.notes)
    yield from (Text(f"{each.severity}: {each}") for each in explanation.problems)
    yield from (Text(printable(line)) for line in _files(explanation))


def _fields(alias: AliasExplanation) -> Table:
    """Return a table with the value of each field and, below it, its origin."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for header in ("indent", "field", "told"):
        table.add_column(header, overflow="fold", no_wrap=header != "told")
    for each in alias.fields:
        for number, told in enumerate(_field_lines(each)):
            table.add_row("", Text("" if number else each.field, style="bold"), told)
    return table


def _field_lines(field: FieldExplanation) -> list[Text]:
    part = f"the {field.part} of " if field.part else ""
    lines = [Text(f"from {part}{field.origin}")] if field.origin else []
    lines += [Text(f"not {_shadowed_value(each, field)}", style="dim") for each in field.shadowed]
    lines += [Text(f"not {origin}: it is empty", style="dim") for origin in field.empty]
    if field.origin is None and field.value is None:
        return [Text("not set", style="dim"), *lines] if lines else []
    return [_value(field), *lines]


def _value(field: FieldExplanation) -> Text:
    mark = field.fingerprint
    if mark:
        line_end = ", its file ends in a line end" if mark.had_line_end else ""
        marked = f"{field.value} ({mark.length} characters, fingerprint {mark.digest}{line_end})"
        return Text(marked)
    if field.is_set:
        return Text(field.value or "not valid")
    return Text(f"{field.value} (not set)", style="dim")


def _shadowed_value(other: Shadowed, field: FieldExplanation) -> str:
    """Return the origin of a shadowed value, the value, and the reason."""
    value = other.value
    if field.fingerprint and other.fingerprint:
        same = field.fingerprint.digest == other.fingerprint.digest
        value = "the same value" if same else "another value"
    told = f", {value}" if value and value != MASK else ""
    return f"{other.origin}{told}: {other.reason}"


def _files(explanation: Explanation) -> Iterator[str]:
    """Yield the sources, and the dotenv files that no profile and no option names."""
    try:
        here = Path.cwd()
    except OSError:  # it was deleted
        here = Path("a deleted directory")
    yield f"sources in {here}, highest precedence first:"
    yield "  environment"
    yield from (f"  {seen.path}: {seen.state}" for seen in explanation.files)
    known = {here / ".env.example", *(here / seen.path for seen in explanation.files)}
    left = sorted(path.name for path in here.glob(".env*") if path not in known)
    yield from (f"  {name}: not a source" for name in left)


@click.command(
    "list",
    epilog=epilog("zconfig list", "zconfig list --format json", exit_codes=OFFLINE_CODES),
)
@output("table", "json", "github")
@pass_session
def list_(session: Session, format_: Format) -> None:
    """List the configured aliases without connecting.

    Shows the endpoint, the database and the origin of each alias, and all problems of the
    configuration.
    """
    report = list_aliases(session.connections)
    finish(session, report, render(report, format_, "list"))


@click.command(
    "explain",
    epilog=epilog(
        "zconfig explain prod", "zconfig explain --format json", exit_codes=OFFLINE_CODES
    ),
)
@click.argument("alias", required=False, shell_complete=complete_alias)
@output("table", "json")
@pass_session
def explain_(session: Session, alias: str | None, format_: Format) -> None:
    """Show where each value of an alias is set.

    Shows ALIAS, by default all aliases: for each field its value, the variable or the file and line
    that sets it, and the values that it takes precedence over. Secrets are masked; equal secrets
    have equal fingerprints.
    """
    explanation = session.connections.explain(alias)
    problems = (*explanation.problems, *(p for a in explanation.aliases for p in a.problems))
    errors = [str(problem) for problem in problems if problem.severity == "error"]
    if not session.is_quiet:
        is_json = format_ == "json"
        write(render_json(explanation) if is_json else draw(explanation_parts(explanation)))
    elif errors:
        write_error("\n".join(errors))
    sys.exit(ExitCode.CONFIGURATION if errors else ExitCode.OK)


@click.command(epilog=epilog("zconfig version", "zconfig version --format json", exit_codes=()))
@output("table", "json")
def version(format_: Format) -> None:
    """Show the versions of zconfig and its dependencies.

    These are Python, gRPC, pymilvus and Milvus Lite.
    """
    found = json_value(Versions())
    lines = (f"{name:<12}{each}" for name, each in found.items() if each)
    write(render_json(found) if format_ == "json" else "\n".join(lines))
