"""The command that becomes another one: `exec`."""

from __future__ import annotations

import click

from zconfig.cli.ending import fail
from zconfig.cli.environ import environment_with, execute, pairs
from zconfig.cli.live import shown
from zconfig.cli.options import complete_alias, epilog
from zconfig.cli.report import checked
from zconfig.cli.session import Session, pass_session
from zconfig.sources.process import process_environment


class _AfterDashes(click.Command):
    """A command whose own options end at `--`: `-q` after it belongs to the other program."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Ask for the dashes where they are missing."""
        asks_for_help = not set(args).isdisjoint(self.get_help_option_names(ctx))
        if "--" not in args and not asks_for_help and not ctx.resilient_parsing:
            raise click.UsageError("write -- before the command to run", ctx)
        return super().parse_args(ctx, args)


@click.command(
    "exec",
    cls=_AfterDashes,
    epilog=epilog(
        "zconfig exec prod -- python app.py",
        "zconfig exec prod --map URI=DB_URL --map TOKEN=DB_KEY -- ./migrate.sh",
        "zconfig exec prod --check -- python app.py",
        exit_codes=False,
    ),
)
@click.argument("alias", shell_complete=complete_alias)
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="FIELD=VARIABLE",
    callback=pairs,
    help="A variable for the command; repeatable.",
)
@click.option("--check", is_flag=True, help="Connect first, and run it only if that succeeds.")
@click.argument(
    "command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND [ARGS]..."
)
@pass_session
def exec_(
    session: Session,
    alias: str,
    mapping: tuple[tuple[str, str], ...],
    command: tuple[str, ...],
    *,
    check: bool,
) -> None:
    """Run COMMAND with the values of ALIAS as the variables that it wants.

    By default those of pymilvus: MILVUS_URI, MILVUS_TOKEN and MILVUS_DB_NAME. The fields for --map
    are URI (without credentials and database), ADDRESS, HOST, PORT, TOKEN, USER, PASSWORD, DB_NAME,
    TIMEOUT, TLS_CA, TLS_CERT, TLS_KEY, TLS_SERVER_NAME and PROXY. A variable whose field has no
    value is taken out of the environment; the rest of it stays.

    The command takes this process' place: signals and the exit code are its own. It exits with 127
    if there is no such command, with 126 if it cannot be executed, and otherwise as `check` does.
    """
    spec = session.connections.spec(alias)
    if check:
        _prove(session, alias)
    environ = environment_with(process_environment(), spec, mapping)
    session.connections.close()
    execute(command, environ)


def _prove(session: Session, alias: str) -> None:
    with shown(session, [alias]):
        report = checked(session.connections, [alias], wait=None, timeout=None)
    if report.exit_code:
        fail(report.summary(), report.exit_code)
