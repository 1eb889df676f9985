"""Whatever a user can see is as it was recorded: names, signatures, help texts, messages.

`python -m tests.test_surface` records it anew; the change is then read in the diff of surface.txt.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import click
from pydantic import BaseModel

from zconfig import errors
from zconfig._cli.app import zconfig

RECORD = Path(__file__).with_name("surface.txt")
MODULES = ("", ".aio", ".errors", ".events", ".health", ".interop", ".otel", ".testing")
FACTS = ("exit_code", "permanent", "stage", "cause", "problem", "remedy")


def surface() -> str:
    return "\n".join([*names(), *messages(), *helps(zconfig, "zconfig")]) + "\n"


def names() -> Iterator[str]:
    for name in MODULES:
        module = importlib.import_module(f"zconfig{name}")
        for each in sorted(public_names(module)):
            yield from described(f"{module.__name__}.{each}", getattr(module, each))


def public_names(module: ModuleType) -> list[str]:
    listed: list[str] | None = getattr(module, "__all__", None)
    own = [n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__]
    return [n for n in (own if listed is None else listed) if n != "__version__" and n[0] != "_"]


def described(name: str, value: Any) -> Iterator[str]:
    if not inspect.isclass(value):
        yield f"{name}{signature(value)}" if callable(value) else f"{name}: {type(value).__name__}"
        return
    bases = ", ".join(base.__name__ for base in value.__bases__)
    if issubclass(value, BaseModel):  # what else it takes is pydantic's, and its version's
        yield f"class {name}({bases})({', '.join(value.model_fields)})"
        return
    yield f"class {name}({bases}){'' if issubclass(value, Enum) else signature(value)}"
    for each, member in sorted(vars(value).items()):
        if not each.startswith("_") or each in {"__getitem__", "__contains__", "__enter__"}:
            text = signature(getattr(member, "__func__", member)) if callable(member) else ""
            yield f"    {each}{text}"


def signature(value: Any) -> str:
    try:
        return str(inspect.signature(value))
    except (TypeError, ValueError):
        return "(…)"


def messages() -> Iterator[str]:
    for name, value in sorted(vars(errors).items()):
        if inspect.isclass(value) and issubclass(value, errors.ZConfigError):
            facts = [str(getattr(value, each, "")) for each in FACTS]
            yield f"{name}: {' | '.join(facts)}"


def helps(command: click.Command, name: str) -> Iterator[str]:
    context = click.Context(
        command, info_name=name, terminal_width=100, help_option_names=["-h", "--help"]
    )
    yield f"$ {name} --help\n{command.get_help(context)}\n"
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            yield from helps(
                cast("click.Command", command.get_command(context, each)), f"{name} {each}"
            )


def test_what_a_user_sees_is_what_is_recorded() -> None:
    assert surface().splitlines() == RECORD.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    RECORD.write_text(surface(), encoding="utf-8")
