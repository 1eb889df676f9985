"""The commands that write something to start with: a `.env`, a schema, a shell's completion."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import click
from click.shell_completion import ShellComplete, get_completion_class

from zconfig.cli.ending import write
from zconfig.cli.initialise import (
    append_privately,
    check_file,
    dotenv_lines,
    ignore_in_git,
    outranking,
)
from zconfig.cli.options import epilog
from zconfig.cli.schemas import OF_COMMANDS, schema_of
from zconfig.cli.session import Session, pass_session
from zconfig.errors import ConfigurationError
from zconfig.settings.arguments import fold_alias, from_arguments, hide
from zconfig.settings.names import DEFAULT_ALIAS
from zconfig.settings.reference import env_example, json_schema
from zconfig.sources.process import process_environment

_VARIABLES = "variables"


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
    fields = _given(name, {}, "uri", uri) if uri else _asked(name, {}, "uri", _ask_uri)
    if token:
        fields = _asked(name, fields, "token", _ask_token)
    append_privately(file, dotenv_lines(name, fields))
    told = [f"declared `{name}` in {path}; try: zconfig check {name}"]
    if above := outranking(name, fields, process_environment()):
        told.append(
            f"{' and '.join(above)} in the environment takes precedence: unset it to use this"
        )
    if ignore_in_git(file):
        told.append(f"added {file.name} to .gitignore")
    if not session.is_quiet:
        write("\n".join(told))


def _asked(
    alias: str, fields: dict[str, str], field: str, ask: Callable[[], str]
) -> dict[str, str]:
    """Return fields with one more, which is asked for until it is right."""
    while True:
        try:
            return _given(alias, fields, field, ask())
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


def _ask_uri() -> str:
    return str(click.prompt("URI", default="./milvus.db"))


def _ask_token() -> str:
    """Read a token without echo; Python's `getpass` warns where there is no terminal."""
    asked = "Token (empty for none)"
    if _is_interactive():
        return str(click.prompt(asked, default="", show_default=False, hide_input=True))
    click.echo(f"{asked}: ")
    line = sys.stdin.readline() if sys.stdin else ""
    if not line:
        raise click.Abort
    return line.removesuffix("\n")


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
