"""Pictures of a terminal: what commands really print, in colour, drawn by rich as SVG."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from html import escape
from io import StringIO
from pathlib import Path

import trustme
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]

_PORT = "19530"
# As long wherever it is, since it decides about the widths of columns.
_BASE = "/tmp"  # noqa: S108 - a directory of our own is made in it
# A hint for containers is shown in none: pictures are the same wherever they are drawn.
_NO_CONTAINER = """\
from pathlib import Path
exists = Path.exists
Path.exists = lambda path: str(path) not in {"/.dockerenv", "/run/.containerenv"} and exists(path)
"""

# Without the font that it would fetch: a viewer's own monospaced one does as well. And with what
# is written, for those who do not look; braces are the template's own.
_FORMAT = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


@dataclass(frozen=True)
class Screen:
    """A command, and what stands around it.

    Args:
        command: What is typed.
        files: Texts by name, in the directory where it runs.
        environ: Variables besides.
        columns: How wide the terminal is.
    """

    command: str
    files: Mapping[str, str]
    environ: Mapping[str, str] = field(default_factory=dict)
    columns: int = 100

    def at(self, port: str) -> Screen:
        """Return it with another port in the place of Milvus' own."""
        files = {name: text.replace(_PORT, port) for name, text in self.files.items()}
        return replace(self, files=files)

    def seen(self) -> str:
        """Run the command on a terminal, and return what is seen there, with its colours."""
        with tempfile.TemporaryDirectory(prefix="z", dir=_BASE) as directory:
            for name, content in self.files.items():
                path = Path(directory, name)
                path.write_text(content, encoding="utf-8")
                path.chmod(0o600)
            start = Path(directory, "start", "sitecustomize.py")
            start.parent.mkdir()
            start.write_text(_NO_CONTAINER, encoding="utf-8")
            authority = Path(directory, "authority.pem")
            trustme.CA().cert_pem.write_to_path(str(authority))
            printed = on_terminal(self, Path(directory), authority)
        return f"\x1b[2m$\x1b[0m {self.command}\n{moved(printed, directory).rstrip()}\n"


def moved(text: str, directory: str) -> str:
    """Return a text in which a directory is `/app`; in a table the columns stay where they are."""

    def name(found: re.Match[str]) -> str:
        shorter = f"/app{found[1]}"
        return f"{shorter}," if found[2] else shorter.ljust(len(found[0]))

    return re.sub(rf"{re.escape(directory)}([\w./-]*)(,?)", name, text)


def on_terminal(screen: Screen, directory: Path, authority: Path) -> str:
    """Run a command with a terminal for its standard output; return that, and its errors after.

    The certificates that it trusts are a file of ours: each system has its own list elsewhere.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, screen.columns, 0, 0))
    process = subprocess.Popen(  # noqa: S603 - what stands below
        ["/bin/sh", "-c", screen.command],
        cwd=directory,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{directory / 'start'}:{ROOT}",
            "TERM": "xterm-256color",
            "SSL_CERT_FILE": str(authority),
            **screen.environ,
        },
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    printed = b""
    with suppress(OSError):  # what reading from a terminal without a writer raises
        while chunk := os.read(ours, 65536):
            printed += chunk
    os.close(ours)
    _, errors = process.communicate()
    return printed.decode().replace("\r\n", "\n") + errors


def drawn(name: str, seen: str) -> str:
    """Return what is seen on a terminal as SVG."""
    text = Text.from_ansi(seen)
    columns = SCREENS[name].columns
    console = Console(record=True, width=columns, file=StringIO(), highlight=False)
    console.print(text)
    svg = console.export_svg(title="", code_format=_FORMAT, unique_id=name)
    title, described = escape(text.plain.splitlines()[0]), escape(text.plain)
    head, tag, body = svg.partition(">")
    return f"{head}{tag}\n<title>{title}</title><desc>{described}</desc>{body}"


# --- what is shown ------------------------------------------------------------------------------

_APP = """\
import sys
import zconfig

try:
    zconfig.autoconnect()
except zconfig.ZConfigError as error:
    sys.exit(str(error))
"""

SCREENS = {
    "check": Screen(
        "zconfig check",
        {".env": "ZILLIZ_URI=./notes.db\nZILLIZ_EU_URI=http://127.0.0.1:1\n"},
        columns=122,
    ),
    "explain": Screen(
        "zconfig explain",
        {
            ".env": "ZILLIZ_URI=https://staging.example.com\nZILLIZ_TOKEN=for-staging\n",
            "token": "for-production",
        },
        {"ZILLIZ_URI": "https://prod.example.com/shop", "ZILLIZ_TOKEN_FILE": "./token"},
    ),
    "error": Screen(
        "python app.py",
        {
            "app.py": _APP,
            ".env": "ZILLIZ_URI=localhost:19530\n"
            "ZILLIZ_TOKEN=secret\n"
            "ZILLIZ_USER=shop\n"
            "ZILLIZ_EU_URI=http://eu.example.com\n"
            "ZILLIZ_EU_TIMEOUT=soon\n",
        },
    ),
    "doctor": Screen(
        "zconfig doctor",
        {".env": f"ZILLIZ_URI=https://127.0.0.1:{_PORT}\nZILLIZ_TOKEN=root:Milvus\n"},
    ),
}


def screens() -> dict[str, str]:
    """Return what is seen on each screen, by the picture's name."""
    with untrusted() as port:
        return {
            name: screen.at(port).seen().replace(port, _PORT) for name, screen in SCREENS.items()
        }


@contextmanager
def untrusted() -> Iterator[str]:
    """Serve TLS on a port, with a certificate of an authority that nobody trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_shake_hands, args=(server, context), daemon=True).start()
        yield str(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)  # or the thread would go on waiting


def _shake_hands(server: socket.socket, context: ssl.SSLContext) -> None:
    with suppress(OSError):  # it is closed
        while True:
            connection, _ = server.accept()
            with connection, suppress(OSError), context.wrap_socket(connection, server_side=True):
                pass
