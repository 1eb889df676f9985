"""The commands that write something to start with: a `.env`, a schema, a shell's completion."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import click
from click.shell_completion import ShellComplete, get_completion_class

from zconfig.cli.ending import write
from zconfig.cli.initialise import (
    append_privately,
    check_file,
    dotenv_lines,
    ignore_in_git,
    names_read,
    outranking,
)
from zconfig.cli.options import epilog
from zconfig.cli.schemas import OF_COMMANDS, schema_of
from zconfig.cli.session import Session, pass_session
from zconfig.errors import ConfigurationError
from zconfig.settings.arguments import fold_alias, from_arguments, hide
from zconfig.settings.configuration import Configuration
from zconfig.settings.names import DEFAULT_ALIAS, variable_name
from zconfig.settings.reference import env_example, json_schema

_VARIABLES = "variables"


class _Question(NamedTuple):
    text: str
    default: str
    remedy: str


_QUESTIONS = {
    "uri": _Question("URI [./milvus.db]", "./milvus.db", "pass it with --uri"),
    "token": _Question(
        "Token (empty for none)",
        "",
        "pipe it in, run this in a terminal, or pass --no-token and set {}",
    ),
}


@click.command(
    epilog=epilog(
        "zconfig init",
        "zconfig init --alias prod --uri http://localhost:19530 --no-token",
        exit_codes=False,
    )
)
@click.option("--alias", default=DEFAULT_ALIAS, show_default=True, help="The connection's name.")
@click.option("--uri", help="Where the server is; asked for if it is not given.")
@click.option("--token/--no-token", default=True, help="Whether to ask for a token, without echo.")
@click.option(
    "--file",
    "path",
    default=".env",
    show_default=True,
    type=click.Path(),
    help="The file to add to.",
)
@pass_session
def init(session: Session, alias: str, uri: str | None, path: str, *, token: bool) -> None:
    """Declare a connection in a .env file that only you can read.

    Asks for what is not given, and once more where it is wrong; a token is not echoed, and never an
    argument. What the file holds stays. `.env` is added to .gitignore.
    """
    file = Path(path)
    name = fold_alias(alias, "pass it with --uri")
    check_file(name, file)
    fields = _given(name, {}, "uri", uri) if uri else _asked(name, {}, "uri")
    if token:
        fields = _asked(name, fields, "token")
    append_privately(file, dotenv_lines(name, fields))
    told = [_declared(name, fields, path, session.configuration(remote=False))]
    if ignore_in_git(file):
        told.append(f"added {file.name} to .gitignore")
    if not session.is_quiet:
        write("\n".join(told))


def _declared(
    alias: str, fields: Mapping[str, str], path: str, configuration: Configuration
) -> str:
    """Say what was declared, and what keeps it from being used."""
    names = names_read(configuration, path)
    above = " and ".join(map(str, outranking(alias, fields, names, configuration)))
    if not names:
        hint = f"that file is not read: set ZCONFIG_ENV_FILE={path} to have it read"
    elif above:
        hint = f"{above} takes precedence: remove it to use this"
    else:
        hint = f"try: zconfig check {alias}"
    return f"declared `{alias}` in {path}; {hint}"


def _asked(alias: str, fields: dict[str, str], field: str) -> dict[str, str]:
    """Return fields with one more, which is asked for until it is right."""
    question = _QUESTIONS[field]
    while True:
        try:
            return _given(alias, fields, field, _answer(alias, field) or question.default)
        except ConfigurationError as error:
            if not _is_interactive():  # the next line is an answer to another question
                raise
            for problem in error.problems:
                click.echo(f"Error: {problem.message}; {problem.remedy}", err=True)


def _given(alias: str, fields: dict[str, str], field: str, value: str) -> dict[str, str]:
    """Return fields with one more.

    Raises:
        ConfigurationError: It is wrong.
    """
    more = {**fields, field: value}
    from_arguments(alias, hide(more), "zconfig init")
    return more


def _answer(alias: str, field: str) -> str:
    """Ask for a field, a token without echo; read a line where there is no terminal."""
    question = _QUESTIONS[field]
    if _is_interactive():
        hidden = field == "token"
        return str(click.prompt(question.text, default="", show_default=False, hide_input=hidden))
    click.echo(f"{question.text}: ")
    # In bytes: the error of a strict decoder would hold the token.
    line = sys.stdin.buffer.readline() if sys.stdin else b""
    if not line:
        remedy = question.remedy.format(variable_name(alias, field))
        raise click.UsageError(f"standard input ends before the {field.upper()}; {remedy}")
    return line.decode(errors="surrogateescape").rstrip("\r\n")


def _is_interactive() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


@click.command("env-example", epilog=epilog("zconfig env-example > .env", exit_codes=False))
def env_example_() -> None:
    """Print a `.env` with every variable explained."""
    write(env_example(), nl=False)


@click.command(
    epilog=epilog(
        "zconfig schema > zconfig.schema.json", "zconfig schema --of check", exit_codes=False
    )
)
@click.option(
    "--of",
    "subject",
    type=click.Choice([_VARIABLES, *OF_COMMANDS]),
    default=_VARIABLES,
    show_default=True,
    help="What it is a schema of: the variables, or a command's `--format json`.",
)
def schema(subject: str) -> None:
    """Print a JSON Schema of the variables, or of a command's JSON."""
    made = json_schema() if subject == _VARIABLES else schema_of(subject)
    write(json.dumps(made, indent=2))


@click.command(
    epilog=epilog(
        'eval "$(zconfig completion bash)"   # in ~/.bashrc',
        'eval "$(zconfig completion zsh)"    # in ~/.zshrc',
        "zconfig completion fish > ~/.config/fish/completions/zconfig.fish",
        exit_codes=False,
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script that completes commands, options and aliases in SHELL.

    Aliases are completed from what can be read without the network.
    """
    kind = get_completion_class(shell)
    if kind is None:  # click knows these three since 8.0
        raise click.BadParameter(f"click cannot complete in {shell}")
    made = kind(context.find_root().command, {}, "zconfig", "_ZCONFIG_COMPLETE")
    # bash's own asks an installed bash for its version first: the script may be for another one.
    write(ShellComplete.source(made))
