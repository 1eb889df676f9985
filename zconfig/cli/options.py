"""Options and texts that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

EXIT_CODES = """
\b
Exit codes:
  0  every required alias is fine
  1  unexpected
  2  usage
  3  configuration
  4  unreachable: DNS, refused, timeout
  5  TLS
  6  authentication or permission
  7  not Milvus
  8  database missing
"""


def epilog(*examples: str, exit_codes: bool = True) -> str:
    """Return what stands at the end of a command's help.

    Args:
        *examples: Command lines.
        exit_codes: Whether its exit codes follow.
    """
    lines = (
        "\b",
        f"Example{'s' if len(examples) > 1 else ''}:",
        *(f"  {each}" for each in examples),
    )
    return "\n".join(lines) + (f"\n{EXIT_CODES}" if exit_codes else "")


def which_aliases(command: F) -> F:
    """Add the ways to name aliases; the command takes them as `aliases` and `more`."""
    command = click.option(
        "--alias", "more", multiple=True, metavar="ALIAS", help="As the argument."
    )(command)
    return click.argument("aliases", nargs=-1)(command)


def with_timeout(command: F) -> F:
    """Add the time that each alias gets."""
    positive = click.FloatRange(min=0, min_open=True)
    return click.option("--timeout", type=positive, help="Seconds an alias.")(command)


def output(*formats: str) -> Callable[[F], F]:
    """Return a decorator that adds the choice of a format."""
    return click.option(
        "--format",
        "format_",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="How the result is written.",
    )


def with_quiet(command: F) -> F:
    """Add the option to print nothing but failures."""
    return click.option("--quiet", "-q", is_flag=True, help="Print nothing but failures.")(command)
