"""`zconfig init`, `env-example`, `schema` and `completion`: commands that generate files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.shell_completion import shell_complete

from zconfig._cli.doctor import Findings
from zconfig._cli.exit import write, write_error
from zconfig._cli.inspect import Versions
from zconfig._cli.options import OFFLINE_CODES, Session, epilog, pass_session
from zconfig._cli.report import Report
from zconfig._cli.schemas import json_schema_of
from zconfig._origin import Origin, anchored, printable
from zconfig._settings.arguments import fold_alias, from_arguments, hide
from zconfig._settings.configuration import Configuration
from zconfig._settings.explain import Explanation
from zconfig._settings.fields import CREDENTIALS
from zconfig._settings.names import DEFAULT_ALIAS, Name, parse_name, variable_name
from zconfig._settings.reference import env_example, json_schema
from zconfig._sources.dotenv import read_dotenv
from zconfig.errors import ConfigurationError, Problem

_BARE = re.compile(r"[A-Za-z0-9_./:@%+,=~-]+")


def dotenv_line(variable: str, value: str) -> str:
    r"""Return a line that sets a variable, quoted if necessary.

    Inside single quotes `$` and `#` are ordinary characters; only `\` and `'` are escaped.

    Examples:
        >>> dotenv_line("ZILLIZ_URI", "./x.db")
        'ZILLIZ_URI=./x.db'
        >>> print(dotenv_line("ZILLIZ_TOKEN", "a b$c"))
        ZILLIZ_TOKEN='a b$c'
    """
    if _BARE.fullmatch(value):
        return f"{variable}={value}"
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{variable}='{escaped}'"


def dotenv_lines(alias: str, fields: Mapping[str, str | None]) -> list[str]:
    """Return the lines that configure an alias.

    Args:
        alias: The alias in its folded form.
        fields: Values by field; empty values are omitted.
    """
    return [dotenv_line(variable_name(alias, f), v) for f, v in fields.items() if v]


def check_file(alias: str, path: Path) -> None:
    """Check that an alias can be added to a file.

    Args:
        alias: The alias in its folded form.
        path: The file; it may be missing.

    Raises:
        ConfigurationError: The file cannot be read, configures the alias already, or belongs to
            another user.
    """
    _check_owner(path)
    reading = read_dotenv(path, {})
    if any(seen.state == "refused" for seen in reading.files):
        raise ConfigurationError(reading.problems)
    set_there = [entry.origin for entry in reading.entries if entry.value]
    at_fault = [each.origin for each in reading.problems if each.origin]
    for origin in (*set_there, *at_fault):
        name = parse_name(origin.key)
        if isinstance(name, Name) and name.alias == alias:
            remedy = "edit the file, or use another alias"
            what = "the alias is already configured"
            raise ConfigurationError(
                [Problem("already_declared", what, remedy, alias, None, origin)]
            )


def _check_owner(path: Path) -> None:
    """Raise if the owner of a file must not receive a token."""
    if _is_foreign(path):
        what = "another user owns the file, or the link to it"
        remedy = "use --file with a file in a directory of your own"
        raise _file_error(path, "foreign_owner", what, remedy)


def _file_error(path: Path, code: str, what: str, remedy: str) -> ConfigurationError:
    origin = Origin("dotenv", printable(str(path)))
    return ConfigurationError([Problem(code, what, remedy, origin=origin)])


def _is_foreign(path: Path) -> bool:
    """Return whether a file, or a link to it, belongs neither to this user nor to the directory's.

    In /tmp, for example, any user can create it. On Windows this returns `False`.
    """
    if not hasattr(os, "geteuid"):
        return False
    try:
        owners = {path.lstat().st_uid}
        with suppress(FileNotFoundError):  # a link to nothing yet
            owners.add(path.stat().st_uid)
        return not (owners <= {os.geteuid()} or owners == {path.parent.stat().st_uid})
    except OSError:  # it is missing, or it cannot be read, which the caller reports
        return False


def append_privately(path: Path, lines: list[str]) -> None:
    """Append lines to a file atomically, and make it readable only by its owner.

    Args:
        path: The file; it is created if it is missing. A symbolic link stays one.
        lines: The lines to append.

    Raises:
        ConfigurationError: The file cannot be written, or belongs to another user.
    """
    _check_owner(path)
    target = Path(os.path.realpath(path))
    try:
        before = target.read_bytes() if target.exists() else b""
        separator = b"" if not before or before.endswith(b"\n") else b"\n"
        added = "".join(f"{line}\n" for line in lines).encode()
        _replace_privately(target, before + separator + added)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
    else:
        return
    remedy = "correct the path, or give this user write permission"
    raise _file_error(path, "not_writable", f"the file cannot be written ({reason})", remedy)


def _replace_privately(path: Path, content: bytes) -> None:
    # Only the owner can read a temporary file, and the rename is atomic.
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            # The owner stays the same, for example if root runs the command.
            if path.exists() and hasattr(os, "fchown"):
                os.fchown(descriptor, path.stat().st_uid, path.stat().st_gid)
            file.write(content)
        Path(name).replace(path)
    except BaseException:  # Ctrl-C, too, must not leave a partial file with a secret
        Path(name).unlink(missing_ok=True)
        raise


def names_read(configuration: Configuration, path: str) -> frozenset[str]:
    """Return the paths by which a file was read; none if it was not read.

    Args:
        configuration: The configuration.
        path: The file.
    """
    names = (seen.path for seen in configuration.files if seen.state == "read")
    wanted = os.path.realpath(anchored(path, configuration.directory))
    return frozenset(
        n for n in names if os.path.realpath(anchored(n, configuration.directory)) == wanted
    )


def outranking(
    alias: str, fields: Mapping[str, str], names: Collection[str], configuration: Configuration
) -> tuple[Origin, ...]:
    """Return the origins of the values that take precedence over those of a file.

    Args:
        alias: The alias in its folded form.
        fields: The values of the file, by field.
        names: The paths by which the file was read.
        configuration: The configuration, which includes the file.
    """
    declared = {*fields, *CREDENTIALS} if fields.get("token") else {"uri"}
    sources = configuration.provenance.items()
    found = [
        each.origin for (owner, field), each in sources if owner == alias and field in declared
    ]
    found += [p.origin for p in configuration.errors_of(alias) if p.field in declared and p.origin]
    return tuple(dict.fromkeys(origin for origin in found if origin.path not in names))


def ignore_in_git(path: Path) -> bool:
    """Add a file to the `.gitignore` of its directory, if git would not ignore it yet.

    Args:
        path: The file.

    Returns:
        Whether it was added.
    """
    ignore = path.parent / ".gitignore"
    if ignore.exists() and (_is_foreign(ignore) or not ignore.is_file()):
        return False  # not a regular file: reading a pipe, for example, would block
    if not (ignore.exists() or _in_repository(path.parent)) or _is_ignored(path, ignore):
        return False
    before = ignore.read_bytes() if ignore.exists() else b""
    separator = "" if not before or before.endswith(b"\n") else "\n"
    with ignore.open("a", encoding="utf-8") as file:
        file.write(f"{separator}{path.name}\n")
    return True


def _in_repository(directory: Path) -> bool:
    here = directory.absolute()
    return any((each / ".git").exists() for each in (here, *here.parents))


def _is_ignored(path: Path, ignore: Path) -> bool:
    """Return whether git ignores a file; without git, whether `.gitignore` lists its name."""
    git = shutil.which("git")
    if git:
        command = [git, "check-ignore", "--quiet", "--no-index", "--", path.name]
        done = subprocess.run(command, cwd=path.parent, capture_output=True, check=False)  # noqa: S603 - no shell, and a name of the user's own
        if done.returncode in {0, 1}:
            return done.returncode == 0
    names = ignore.read_bytes().split() if ignore.exists() else []
    return path.name.encode() in names


_VARIABLES = "variables"
OF_COMMANDS = {
    **dict.fromkeys(("check", "wait", "list"), Report),
    "doctor": Findings,
    "explain": Explanation,
    "version": Versions,
}
"""The commands that write JSON, and the classes of their results."""


def schema_of(command: str) -> dict[str, Any]:
    """Return the JSON Schema of a command's JSON; `command` is one of `OF_COMMANDS`."""
    draft = "https://json-schema.org/draft/2020-12/schema"
    title = f"zconfig {command} --format json"
    return {"$schema": draft, "title": title, **json_schema_of(OF_COMMANDS[command])}


class _Question(NamedTuple):
    text: str
    default: str
    remedy: str


_QUESTIONS = {
    "uri": _Question("URI [./milvus.db]", "./milvus.db", "pass it with --uri"),
    "token": _Question(
        "Token (empty for none)",
        "",
        "pass it on standard input, use a terminal, or pass --no-token and set {}",
    ),
}


@click.command(
    epilog=epilog(
        "zconfig init",
        "zconfig init --alias prod --uri http://localhost:19530 --no-token",
        exit_codes=OFFLINE_CODES,
    )
)
@click.option("--alias", default=DEFAULT_ALIAS, show_default=True, help="Alias of the connection.")
@click.option("--uri", help="URI of the server; prompted for by default.")
@click.option("--token/--no-token", default=True, help="Whether to prompt for a token.")
@click.option(
    "--file",
    "path",
    default=".env",
    show_default=True,
    type=click.Path(),
    help="File to append to.",
)
@pass_session
def init(session: Session, alias: str, uri: str | None, path: str, *, token: bool) -> None:
    """Add an alias to a .env file that only you can read.

    Prompts for the URI and the token, and again after an invalid answer. The token is not echoed
    and cannot be an argument. The other lines of the file stay. In a git repository the file is
    added to .gitignore.
    """
    file = Path(path)
    name = fold_alias(alias, "pass it with --uri")
    check_file(name, file)
    fields = _with_field(name, {}, "uri", uri) if uri else _ask(name, {}, "uri")
    if token:
        fields = _ask(name, fields, "token")
    append_privately(file, dotenv_lines(name, fields))
    told = [_summary(name, fields, path, session.configuration(remote=False))]
    if ignore_in_git(file):
        told.append(f"added {file.name} to .gitignore")
    if not session.is_quiet:
        write("\n".join(told))


def _summary(alias: str, fields: Mapping[str, str], path: str, configuration: Configuration) -> str:
    """Return the result, and the next step, or the reason why the alias is not used."""
    names = names_read(configuration, path)
    above = " and ".join(map(str, outranking(alias, fields, names, configuration)))
    if not names:
        states = {seen.path: seen.state for seen in configuration.files}
        others = [e for e in configuration.options.dotenv_files if states.get(e) == "read"]
        files = os.pathsep.join((path, *others))
        hint = f"the file is not read; set ZCONFIG_ENV_FILE={files} to read it"
    elif above:
        hint = f"{above} takes precedence; remove it to use this value"
    else:
        hint = f"try: zconfig check {alias}"
    return f"added alias {alias!r} to {path}; {hint}"


def _ask(alias: str, fields: dict[str, str], field: str) -> dict[str, str]:
    """Prompt for a field until it is valid, and return the fields with it."""
    question = _QUESTIONS[field]
    while True:
        try:
            return _with_field(alias, fields, field, _answer(alias, field) or question.default)
        except ConfigurationError as error:
            if not _is_interactive():  # the next line answers another prompt
                raise
            for problem in error.problems:
                write_error(f"Error: {problem.message}; {problem.remedy}")


def _with_field(alias: str, fields: dict[str, str], field: str, value: str) -> dict[str, str]:
    """Return the fields with one more.

    Raises:
        ConfigurationError: The value is invalid.
    """
    more = {**fields, field: value}
    from_arguments(alias, hide(more), "zconfig init")
    return more


def _answer(alias: str, field: str) -> str:
    """Prompt for a field, for a token without echo; without a terminal, read a line."""
    question = _QUESTIONS[field]
    if _is_interactive():
        hidden = field == "token"
        return str(click.prompt(question.text, default="", show_default=False, hide_input=hidden))
    click.echo(f"{question.text}: ")
    # Bytes, since the error of a strict decoder would contain the token.
    line = sys.stdin.buffer.readline() if sys.stdin else b""
    if not line:
        remedy = question.remedy.format(variable_name(alias, field))
        raise click.UsageError(f"standard input ended before the {field.upper()}; {remedy}")
    return line.decode(errors="surrogateescape").rstrip("\r\n")


def _is_interactive() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


@click.command("env-example", epilog=epilog("zconfig env-example > .env", exit_codes=()))
def env_example_() -> None:
    """Print a .env file that explains every variable."""
    write(env_example(), nl=False)


@click.command(
    epilog=epilog(
        "zconfig schema > zconfig.schema.json", "zconfig schema --of check", exit_codes=()
    )
)
@click.option(
    "--of",
    "subject",
    type=click.Choice([_VARIABLES, *OF_COMMANDS]),
    default=_VARIABLES,
    show_default=True,
    help="Subject of the schema: the variables, or the JSON result of a command.",
)
def schema(subject: str) -> None:
    """Print a JSON Schema of the variables or of a result."""
    made = json_schema() if subject == _VARIABLES else schema_of(subject)
    write(json.dumps(made, indent=2))


@click.command(
    epilog=epilog(
        'eval "$(zconfig completion bash)"   # in ~/.bashrc',
        'eval "$(zconfig completion zsh)"    # in ~/.zshrc',
        "zconfig completion fish > ~/.config/fish/completions/zconfig.fish",
        exit_codes=(),
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    It completes commands, options and aliases. Completion of aliases does not use the network.
    """
    command = context.find_root().command
    shell_complete(command, {}, "zconfig", "_ZCONFIG_COMPLETE", f"{shell}_source")
