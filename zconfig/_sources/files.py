"""Read files, after checking type, owner, mode, size and encoding."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Literal, NamedTuple

from zconfig._origin import Origin
from zconfig._redaction import Hidden
from zconfig._sources.base import SourceResult, absent, is_text, refused
from zconfig._value import Value, value
from zconfig.errors import Problem

FileKind = Literal["secret", "dotenv", "certificates", "key"]

_WRITABLE_BY_OTHERS = Problem(
    "world_writable",
    "the file is not read, because users other than the owner can write to it",
    "run chmod go-w on it",
)
_WRITABLE_BY_ALL = Problem(
    "world_writable",
    "the file is not read, because every user can write to it",
    "run chmod go-w on it",
)
_WRITABLE_BY_GROUP = Problem(
    "group_writable",
    "the file's group can write to it",
    "run chmod g-w on it",
    severity="warning",
)
_READABLE_BY_OTHERS = Problem(
    "readable_by_others",
    "users other than the owner can read the secret",
    "run chmod 600 on it",
    severity="warning",
)
_OWNED_BY_OTHERS = Problem(
    "foreign_owner",
    "another user owns the file",
    "change its owner to this user or root",
    severity="warning",
)
_PLANTED = "the file is not read, because another user owns it and may have placed it there"
_PLANTED_BY_KIND = {
    "dotenv": Problem("foreign_owner", _PLANTED, "name it in ZCONFIG_ENV_FILE if you trust it"),
    "secret": Problem(
        "foreign_owner", _PLANTED, "name its directory in ZCONFIG_SECRETS_DIR if you trust it"
    ),
}
# Every file has the same mode there, and mostly the same owner, and chmod has no effect: mounts of
# WSL (which also uses 9p), of Docker Desktop and of virtual machines, and FAT.
_WITHOUT_MODES = frozenset(
    {
        "drvfs",
        "exfat",
        "fakeowner",
        "fuse.grpcfuse",
        "fuse.osxfs",
        "fuse.vmhgfs-fuse",
        "prl_fs",
        "vboxsf",
        "vfat",
    }
)
_CONTAINER_SECRETS = ("/run/secrets/", "/var/run/secrets/")


def permission_verdict(
    status: os.stat_result, *, kind: FileKind, mounted: bool = False
) -> Problem | None:
    """Check a file's owner and mode.

    A secret that others can read is accepted where a container runtime chose the mode: Docker
    mounts secrets as 0444, Kubernetes as 0644. If root owns it, its group can read it too, as
    libpq accepts for keys, since `fsGroup` works that way. A group-writable dotenv file is only a
    warning, since a umask of 002 creates one.

    Args:
        status: The status of the open file.
        kind: The kind of the file's content.
        mounted: Whether a container runtime mounted it.

    Returns:
        A problem of severity `error` if the file must not be used, of severity `warning` if it
        can be used, or `None`.
    """
    if kind == "certificates":
        return None
    if kind == "dotenv":
        return _dotenv_verdict(status.st_mode)
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return _WRITABLE_BY_OTHERS
    others = stat.S_IROTH if status.st_uid == 0 else stat.S_IRGRP | stat.S_IROTH
    return _READABLE_BY_OTHERS if status.st_mode & others and not mounted else None


def _dotenv_verdict(mode: int) -> Problem | None:
    if mode & stat.S_IWOTH:
        return _WRITABLE_BY_ALL
    return _WRITABLE_BY_GROUP if mode & stat.S_IWGRP else None


class Mount(NamedTuple):
    """The mount that a file is on.

    Args:
        point: The mount point: the path of a directory, or of one file.
        file_system: The type of the file system, e.g. `ext4`.
        has_modes: Whether its files have owners and modes of their own.
    """

    point: str
    file_system: str
    has_modes: bool


def mount_of(descriptor: int, proc: Path = Path("/proc/self")) -> Mount | None:
    """Return the mount that an open file is on; `None` if the system does not report it."""
    try:
        info = (proc / "fdinfo" / str(descriptor)).read_text()
        mounts = os.fsdecode((proc / "mountinfo").read_bytes())
    except OSError:
        return None
    number = re.search(r"^mnt_id:\s*(\d+)$", info, re.MULTILINE)
    pattern = rf"^{number[1] if number else 'none'} \S+ \S+ \S+ (\S+) .* - (\S+) (.*)$"
    found = re.search(pattern, mounts, re.MULTILINE)
    if found is None:
        return None
    point = re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), found[1])
    return Mount(point, found[2], found[2] not in _WITHOUT_MODES and "aname=drvfs" not in found[3])


def judge_owner(kind: FileKind, mount: Mount | None, real_path: str, *, named: bool) -> Problem:
    """Return the problem of a file whose owner is not this user, root or its directory's owner.

    A file in a default location may have been planted, as in /tmp. A file that is a mount of its
    own was named when the container was started.
    """
    mounted = mount is not None and mount.point == real_path
    return _OWNED_BY_OTHERS if named or mounted else _PLANTED_BY_KIND[kind]


def without_modes(mount: Mount) -> Problem:
    """Return the problem of a file whose permissions are unknown."""
    return Problem(
        "no_file_modes",
        f"its file system ({mount.file_system}) does not report who can change the file",
        "move the file to one that does, such as the home directory's",
        severity="warning",
    )


def is_mounted_secret(real_path: str) -> bool:
    """Return whether a container runtime mounted a file.

    Docker and Podman mount secrets below /run/secrets. A Kubernetes volume keeps its files in a
    directory such as `..2024_05_01_10_00_00.123456`, to which `..data` points.

    Args:
        real_path: The file's path, free of symlinks.

    Examples:
        >>> is_mounted_secret("/etc/zilliz/..2024_05_01_10_00_00.1/token")
        True
    """
    parts = PurePath(real_path).parts
    return real_path.startswith(_CONTAINER_SECRETS) or any(part.startswith("..") for part in parts)


MAX_SECRET_BYTES = 64 * 1024
MAX_DOTENV_BYTES = 1024 * 1024
MAX_PEM_BYTES = 8 * 1024 * 1024

# Unmodified bytes, no wait for a device, not inherited by a child; no system has all of these.
_FLAGS = os.O_RDONLY | sum(
    getattr(os, name, 0)
    for name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY", "O_NOINHERIT")
)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_MISSING = Problem("missing", "the file does not exist", "create it, or correct the path")
_NOT_REGULAR = Problem("not_regular", "this is a device, not a file", "use a regular file")
_DIRECTORY = Problem("is_directory", "this is a directory, not a file", "use a regular file")
_LOOP = Problem("loop", "its symbolic links form a loop", "point the link at a file")
_OUTSIDE = Problem(
    "outside_directory",
    "its symbolic link points outside the directory",
    "put the file itself into the directory",
)
_NOT_UTF8 = Problem("not_text", "the file is not UTF-8 text", "save it as UTF-8")
_BY_ERRNO = {
    errno.ENOENT: _MISSING,
    errno.ENOTDIR: _MISSING,
    errno.ELOOP: _LOOP,
    errno.ENXIO: _NOT_REGULAR,  # a socket; on macOS EOPNOTSUPP
    errno.EOPNOTSUPP: _NOT_REGULAR,
}


class FileError(Exception):
    """A file that cannot be used; the error contains neither its content nor its path.

    Args:
        reason: The problem; its origin is not set.
    """

    def __init__(self, reason: Problem) -> None:
        self.reason = reason
        super().__init__(reason)

    def __str__(self) -> str:
        return f"{self.reason.message}; {self.reason.remedy}"

    def problem(self, origin: Origin) -> Problem:
        """Return the problem with its origin set."""
        return replace(self.reason, origin=origin)


def unread(error: FileError, origin: Origin) -> SourceResult:
    """Return the result of a location that cannot be read; a missing one is not a problem."""
    is_absent = error.reason.code == "missing"
    return absent(origin.key) if is_absent else refused(origin.key, error.problem(origin))


@value
class FileText(Value):
    """The text of a file.

    Args:
        value: The text, without a byte order mark; a secret without its line end.
        warnings: Warnings about the file; their origin is not set.
        had_line_end: Whether one line end of a secret was removed.
    """

    value: Hidden
    warnings: tuple[Problem, ...] = ()
    had_line_end: bool = False


def located(warnings: tuple[Problem, ...], origin: Origin) -> tuple[Problem, ...]:
    """Return problems with their origin set."""
    return tuple(replace(warning, origin=origin) for warning in warnings)


def read_secret(path: Path | str, *, directory: Path | None = None, named: bool = True) -> FileText:
    r"""Read the secret that a file holds.

    One trailing line end (`\n` or `\r\n`) is removed; all other white space is kept. The largest
    size is 64 KiB. See `read_text` for the arguments and errors.
    """
    text = read_text(
        path, limit_bytes=MAX_SECRET_BYTES, kind="secret", directory=directory, named=named
    )
    value = _without_line_end(text.value)
    return FileText(value, text.warnings, value != text.value)


def _without_line_end(text: Hidden) -> Hidden:
    return Hidden(text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text)


def read_text(
    path: Path | str,
    *,
    limit_bytes: int,
    kind: FileKind,
    directory: Path | None = None,
    named: bool = True,
) -> FileText:
    """Read a text file, after checking its open descriptor.

    Args:
        path: The file.
        limit_bytes: The largest size in bytes.
        kind: The kind of its content, which determines the permissions that it needs.
        directory: The directory that must contain the file, with symlinks resolved.
        named: Whether an option names the file or its directory. A file in a default location is
            rejected if another user may have placed it there.

    Returns:
        The text and the warnings about the file.

    Raises:
        FileError: `missing`, `loop`, `unreadable`, `outside_directory`, `is_directory`,
            `not_regular`, `foreign_owner`, `world_writable`, `too_large` or `not_text`.
    """
    try:
        outcome = _Request(path, limit_bytes, kind, directory, named).read()
    except OSError as error:
        outcome = _explain(error)
    except ValueError:  # a NUL byte, or a character that the file system cannot encode
        outcome = _MISSING
    if isinstance(outcome, Problem):
        raise FileError(outcome)
    return outcome


@value
class _Request(Value):
    """One file to read; errors are returned, so that no traceback contains the content."""

    path: Path | str
    limit_bytes: int
    kind: FileKind
    directory: Path | None
    named: bool

    def read(self) -> FileText | Problem:
        descriptor = os.open(self.path, _FLAGS)
        try:
            return self._read_open(descriptor)
        finally:
            os.close(descriptor)

    def _read_open(self, descriptor: int) -> FileText | Problem:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            return _DIRECTORY if stat.S_ISDIR(mode) else _NOT_REGULAR
        real = _path_of(descriptor, self.path)
        if self.directory and not _is_inside(real, self.directory):
            return _OUTSIDE
        problems = self._problems_of(descriptor, real)
        refused = next((each for each in problems if each.severity == "error"), None)
        content = refused or _read_content(descriptor, self.limit_bytes, self.kind)
        return content if isinstance(content, Problem) else FileText(content, problems)

    def _problems_of(self, descriptor: int, real: str) -> tuple[Problem, ...]:
        if not hasattr(os, "geteuid"):  # Windows, where owners and modes have no meaning
            return ()
        user, status = os.geteuid(), os.fstat(descriptor)
        mode = permission_verdict(status, kind=self.kind, mounted=is_mounted_secret(real))
        foreign = self._is_foreign(status, user)
        if mode is None and not foreign:
            return ()
        mount = mount_of(descriptor)
        if mount and not mount.has_modes:
            return (without_modes(mount),)
        owner = judge_owner(self.kind, mount, real, named=self.named) if foreign else None
        return tuple(each for each in (owner, mode) if each)

    def _is_foreign(self, status: os.stat_result, user: int) -> bool:
        """Return whether another user owns the file, or the symlink to it."""
        path = Path(self.path)
        home = (self.directory or path.parent).stat()
        owners = {status.st_uid, path.lstat().st_uid} - {0, home.st_uid}
        return bool(owners) and owners != {user}


if sys.platform == "darwin":
    import fcntl

    def _named_by_kernel(descriptor: int) -> str:
        return os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0"))

else:

    def _named_by_kernel(descriptor: int) -> str:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def _path_of(descriptor: int, path: Path | str) -> str:
    """Return the path of an open file, symlinks resolved: `path` may name another file by now."""
    try:
        return _named_by_kernel(descriptor)
    except OSError:  # Windows and some chroots have no /proc
        return os.path.realpath(path)


def _is_inside(real: str, directory: Path) -> bool:
    """Compare inodes, not names: a file system may accept two spellings of one directory."""
    root = directory.stat()
    return any(os.path.samestat(root, parent.stat()) for parent in Path(real).parents)


def _read_content(descriptor: int, limit_bytes: int, kind: FileKind) -> Hidden | Problem:
    try:
        with open(descriptor, "rb", closefd=False) as stream:
            content = stream.read(limit_bytes + 1)
    except OSError as error:
        return _explain(error)
    if content is None:  # /proc/kmsg is reported as a file, and has no data yet
        return _NOT_REGULAR  # type: ignore[unreachable]  # typeshed lacks this case
    if len(content) > limit_bytes:
        return _too_large(limit_bytes)
    # The error of a strict decoder would contain the bytes.
    text = Hidden(content.removeprefix(_BYTE_ORDER_MARK).decode("utf-8", "surrogateescape"))
    # Comments in a PEM file may be in any encoding.
    return text if kind in {"certificates", "key"} or is_text(text) else _NOT_UTF8


def _too_large(limit_bytes: int) -> Problem:
    return Problem(
        "too_large",
        f"the file is larger than {limit_bytes // 1024} KiB",
        "correct the path, or shorten the file",
    )


def file_error(error: OSError) -> FileError:
    """Return the error of a file that could not be opened or read."""
    return FileError(_explain(error))


def _explain(error: OSError) -> Problem:
    known = _BY_ERRNO.get(error.errno or 0)
    if error.errno == errno.ENAMETOOLONG:
        return Problem("unreadable", "the path is too long", "write the path of a file")
    reason = os.strerror(error.errno or 0).lower()
    remedy = "allow this user to read it"
    return known or Problem("unreadable", f"it cannot be read ({reason})", remedy)
