"""Make what is made from the code's own declarations, so that it cannot drift from them.

python scripts/generate.py           writes the files
python scripts/generate.py --check   fails if one of them is stale
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

from zconfig import errors, events
from zconfig._cli.options import EXIT_CODES
from zconfig._settings.reference import (
    connection_entries,
    env_example,
    json_schema,
    markdown_sections,
    option_entries,
)

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[1]
# Where pages and examples install zconfig from: a clone, until it is on the package index; then
# "zilliz-zconfig". tests/test_install_lines.py says which lines a release takes out besides.
INSTALLED_FROM = "./zconfig"
_INSTALLED = re.compile(r"(?<![\w/])(?:\./zconfig|zilliz-zconfig)(?=['\[ ]|$)")
_ATTRIBUTE = re.compile(r"^    (\w+): ((?:.+\n?)(?:^ {8}.+\n?)*)", re.MULTILINE)
_CODE = re.compile(r"ZCONFIG_\w+|no_proxy|https?://[\w:@]*|zconfig explain|\boff\b")
_EVENTS = "On this page you find every event, with its level and its fields."
NOTICE = "<!-- Made by scripts/generate.py from the code's declarations. -->\n\n"


def variables() -> str:
    """Return the reference of the variables."""
    return (
        f"{NOTICE}# Environment variables\n\nOn this page you find every variable of "
        "zconfig, with its default, its other names and an example.\n\n## Connections\n\n"
        "`ZILLIZ_<FIELD>` configures the alias `default`; `ZILLIZ_<ALIAS>_<FIELD>` configures the "
        "same field of another alias.\n\n"
        f"{markdown_sections(connection_entries())}\n## Options of the loader\n\n"
        f"{markdown_sections(option_entries())}\n## Paths\n\n"
        "A relative path, in any variable or file, is relative to the working directory at import "
        "time; a later change of directory has no effect. A leading `~` is the home directory.\n"
        "\n## Authorities\n\n"
        "If no `TLS_CA` is set, these authorities are trusted, the first that exist:\n\n"
        "1. the file in `GRPC_DEFAULT_SSL_ROOTS_FILE_PATH`\n"
        "2. the file in `SSL_CERT_FILE`, or else the system's file, as in Python's `ssl`, together "
        "with the directories in `SSL_CERT_DIR`\n"
        "3. the system's directory\n"
        "4. the list of gRPC\n\n"
        "In a directory, the files are used that OpenSSL reads, with names such as `5ed36f99.0`. A "
        "variable that names an unreadable file is ignored, and reported when a certificate is not "
        "trusted. `zconfig explain` and `zconfig doctor` print the trusted authorities.\n"
    )


def event_reference() -> str:
    """Return the reference of the lifecycle events."""
    parts = [f"{NOTICE}# Lifecycle events\n\n{_EVENTS} {first_paragraph(events)}\n"]
    for event in released():
        rows = [f"## `{event.name}`\n\nLevel `{event.level}`. {first_paragraph(event)}\n"]
        rows += ["| field | type | meaning |", "| --- | --- | --- |"]
        meanings = attributes_of(event)
        for field in dataclasses.fields(event):
            rows.append(f"| `{field.name}` | `{field.type}` | {meanings[field.name]} |")
        parts.append("\n".join(rows).replace(" | None`", "` or absent") + "\n")
    return "\n".join(parts)


def error_reference() -> str:
    """Return the reference of the connection errors, a section for each cause."""
    title = (
        f"{NOTICE}# Connection errors\n\nOn this page you find the remedy of a failed connection "
        "by its cause, which the message, the events and the command's JSON contain. Every cause "
        "is a class of `zconfig.errors`. A permanent failure ends a connection attempt at once; a "
        "transient one is retried for the seconds of `wait`. A message names the variable of its "
        "alias, or the parameter if the value was passed in code.\n"
    )
    parts = [title]
    by_code: dict[errors.ExitCode, list[type[errors.ConnectError]]] = {}
    for error in descendants(errors.ConnectError):
        # The others are bases: they have no problem of their own.
        if "problem" in vars(error):
            by_code.setdefault(error.exit_code, []).append(error)
    for code, found in sorted(by_code.items()):
        parts.append(f"## Exit code {int(code)}: {EXIT_CODES[code]}\n")
        parts += [_error_section(error) for error in found]
    return "\n".join(parts)


def _error_section(error: type[errors.ConnectError]) -> str:
    kind = "permanent" if error.permanent else "transient"
    return (
        f"### `{error.cause}`\n\n"
        f"`{error.__name__}`, {kind}, stage {error.stage}: {error.problem}.\n\n"
        f"Remedy: {_remedy(error)}.\n"
    )


def _remedy(error: type[errors.ConnectError]) -> str:
    """Return the remedy of an error of any alias."""
    remedy = _CODE.sub(r"`\g<0>`", error.remedy)
    remedy = remedy.replace("{credentials}", "{token}, or {user} and {password}")
    return errors.with_names(remedy, lambda field: f"`ZILLIZ_<ALIAS>_{field.upper()}`")


def exit_code_reference() -> str:
    """Return the reference of the command's exit codes."""
    title = (
        f"{NOTICE}# Exit codes\n\nOn this page you find the exit codes of the command, by the "
        "cause of the failure. Every `ZConfigError` has an `exit_code`, so that a program can exit "
        "with the same code: `sys.exit(error.exit_code)`. The codes do not change between "
        "releases.\n"
    )
    rows = [
        title,
        "| code | meaning | causes |",
        "| --- | --- | --- |",
    ]
    for code, meaning in EXIT_CODES.items():
        raised = [each for each in descendants(errors.ConnectError) if each.exit_code == code]
        causes = ", ".join(f"`{each.cause}`" for each in raised if "problem" in vars(each))
        rows.append(f"| {int(code)} | {meaning} | {causes} |")
    order = ", ".join(str(int(code)) for code in errors.EXIT_ORDER)
    rows.append(f"\nIf several aliases fail, the first of {order} takes precedence.")
    rows.append("[Connection errors](errors.md) has the remedy of each cause.")
    return "\n".join(rows) + "\n"


def descendants(base: type[T]) -> Iterator[type[T]]:
    """Yield the classes below one, depth first."""
    for each in base.__subclasses__():
        yield each
        yield from descendants(each)


def released() -> list[type[events.Event]]:
    """Return the events that are emitted, by name, without the bases that they share."""
    defined = (each for each in vars(events).values() if inspect.isclass(each))
    named = {each.name: each for each in defined if issubclass(each, events.Event)}
    return [named[name] for name in sorted(named) if name != events.Event.name]


def first_paragraph(thing: object) -> str:
    """Return the first line of a docstring, or the sentences below a module's first line."""
    lines = (inspect.getdoc(thing) or "").split("\n\n")
    return " ".join((lines[1] if inspect.ismodule(thing) else lines[0]).split())


def attributes_of(event: type[events.Event]) -> dict[str, str]:
    """Return what the docstrings of an event and its bases say of each field."""
    found: dict[str, str] = {}
    for each in reversed(event.__mro__[:-1]):
        section = (inspect.getdoc(each) or "").partition("Attributes:")[2]
        for name, meaning in _ATTRIBUTE.findall(section):
            found[name] = " ".join(meaning.split())
    return found


def with_install_lines(path: Path) -> str:
    """Return a file whose lines with `pip install` name where zconfig is installed from."""
    return "".join(
        _INSTALLED.sub(INSTALLED_FROM, line) if "pip install" in line else line
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True)
    )


FILES: dict[str, Callable[[], str]] = {
    ".env.example": env_example,
    "docs/variables.md": variables,
    "docs/events.md": event_reference,
    "docs/errors.md": error_reference,
    "docs/exit-codes.md": exit_code_reference,
    "docs/schema.json": lambda: json.dumps(json_schema(), indent=2) + "\n",
}
INSTALLING = [
    path
    for pattern in (
        *("README.md", "docs/**/*.md", "zconfig/**/*.py"),
        *("examples/**/*.py", "examples/**/*.yml", "examples/**/Dockerfile"),
    )
    for path in sorted(ROOT.glob(pattern))
    if "pip install" in path.read_text(encoding="utf-8")
]
FILES |= {str(path.relative_to(ROOT)): partial(with_install_lines, path) for path in INSTALLING}


def main() -> int:
    """Write the files, or with `--check` compare them."""
    check = "--check" in sys.argv[1:]
    stale = []
    for name, make in FILES.items():
        path, text = ROOT / name, make()
        if check and (not path.exists() or path.read_text(encoding="utf-8") != text):
            stale.append(name)
        elif not check:
            path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{name} is stale: run python scripts/generate.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
