"""The command that becomes another one: `exec`."""

from __future__ import annotations

import click

from zconfig.cli.ending import fail
from zconfig.cli.environ import (
    BY_DEFAULT,
    environment_with,
    execute,
    pairs,
    reason_to_omit_uri,
)
from zconfig.cli.live import shown
from zconfig.cli.options import complete_alias, epilog
from zconfig.cli.report import checked
from zconfig.cli.session import Session, pass_session
from zconfig.sources.process import process_environment

_NO_DASHES = "write -- before the command to run"


class _AfterDashes(click.Command):
    """A command whose own arguments and options end at `--`: the other program's follow."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take what follows the dashes as it is, and ask for them where they are missing."""
        asks_for_help = not set(args).isdisjoint(self.get_help_option_names(ctx))
        if "--" not in args:
            if asks_for_help or ctx.resilient_parsing:
                return super().parse_args(ctx, args)
            raise click.UsageError(_NO_DASHES, ctx)
        at = args.index("--")
        rest = super().parse_args(ctx, args[:at])
        if ctx.params["command"]:
            raise click.UsageError(_NO_DASHES, ctx)
        ctx.params["command"] = tuple(args[at + 1 :])
        if not ctx.params["command"]:
            raise click.UsageError("write the command to run after --", ctx)
        return rest


@click.command(
    "exec",
    cls=_AfterDashes,
    epilog=epilog(
        "zconfig exec -- python app.py",
        "zconfig exec prod --map URI=DB_URL --map TOKEN=DB_KEY -- ./migrate.sh",
        "zconfig exec prod --check -- python app.py",
        exit_codes=False,
    ),
)
@click.argument("alias", required=False, shell_complete=complete_alias)
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="FIELD=VARIABLE",
    callback=pairs,
    help="A variable for the command; repeatable.",
)
@click.option("--check", is_flag=True, help="Connect first, and run it only if that succeeds.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="-- COMMAND [ARGS]...")
@pass_session
def exec_(
    session: Session,
    alias: str | None,
    mapping: tuple[tuple[str, str], ...],
    command: tuple[str, ...],
    *,
    check: bool,
) -> None:
    """Run COMMAND with the values of ALIAS, by default the default one, as environment variables.

    Without --map these are MILVUS_URI, MILVUS_TOKEN, MILVUS_USER, MILVUS_PASSWORD, MILVUS_DB_NAME
    and MILVUS_DB, which zconfig and, by convention, other Milvus programs read. pymilvus itself
    reads MILVUS_URI alone, and MilvusClient() not even that. The fields for --map are URI (without
    credentials and database), ADDRESS, HOST, PORT, TOKEN, USER, PASSWORD, DB_NAME, TIMEOUT, TLS_CA,
    TLS_CERT, TLS_KEY, TLS_SERVER_NAME and PROXY. A variable whose field has no value is taken out
    of the environment; the rest of it stays.

    The command takes this process' place: signals and the exit code are its own. It exits with 127
    if there is no such command, with 126 if it cannot be executed, and otherwise as `check` does.
    """
    spec = session.connections.spec(alias)
    if check:
        _prove(session, spec.alias)
    environ = environment_with(process_environment(), spec, mapping or BY_DEFAULT)
    reason = None if mapping else reason_to_omit_uri(spec)
    if reason:
        del environ["MILVUS_URI"]
        _say_what_is_omitted(session, reason)
    session.connections.close()
    execute(command, environ)


def _say_what_is_omitted(session: Session, reason: str) -> None:
    if not session.is_quiet:
        what = f"MILVUS_URI is not set: pymilvus cannot be imported with {reason} in it"
        click.echo(f"zconfig: {what}; use --map URI=VARIABLE", err=True)


def _prove(session: Session, alias: str) -> None:
    with shown(session, [alias]):
        report = checked(session.connections, [alias], wait=None, timeout=None)
    if report.exit_code:
        fail(report.summary(), report.exit_code)
