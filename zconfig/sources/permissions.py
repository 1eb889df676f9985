"""Whether a file's owner and mode are fit for what it holds."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path, PurePath
from typing import Literal, NamedTuple

from zconfig.errors import Problem

FileKind = Literal["secret", "dotenv", "certificates", "key"]

_WRITABLE_BY_OTHERS = Problem(
    "world_writable", "others than its owner may write to the file", "run chmod go-w on it"
)
_WRITABLE_BY_ALL = Problem(
    "world_writable", "everybody may write to the file", "run chmod o-w on it"
)
_WRITABLE_BY_GROUP = Problem(
    "group_writable",
    "the file's group may write to it",
    "run chmod g-w on it",
    severity="warning",
)
_READABLE_BY_OTHERS = Problem(
    "readable_by_others",
    "others than its owner may read the secret",
    "run chmod 600 on it",
    severity="warning",
)
_OWNED_BY_OTHERS = Problem(
    "foreign_owner",
    "another user owns the file",
    "make this user or root its owner",
    severity="warning",
)
_PLANTED = "another user owns the file, and may have put it there"
_PLANTED_BY_KIND = {
    "dotenv": Problem("foreign_owner", _PLANTED, "name it in ZCONFIG_ENV_FILE"),
    "secret": Problem("foreign_owner", _PLANTED, "name its directory in ZCONFIG_SECRETS_DIR"),
}
# Every file has the same mode there, and mostly the same owner, whatever chmod is told: mounts of
# WSL (which also has 9p for it), of Docker Desktop and of virtual machines, and FAT.
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
    """Judge a file's owner and mode.

    A secret that others may read is tolerated where a container runtime chose the mode: Docker
    mounts secrets as 0444, Kubernetes as 0644. Owned by root, the group may read it too, as
    libpq has it for keys, since `fsGroup` works like that. A dotenv file that its group may
    write to is what a umask of 002 makes.

    Args:
        status: Of the open file.
        kind: What the file holds.
        mounted: Whether a container runtime mounted it.

    Returns:
        A problem of severity `error` if the file must not be used, of severity `warning` if it
        may, or `None`.
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
        point: Where it is mounted: the path of a directory, or of one file.
        file_system: The type of the file system, e.g. `ext4`.
        has_modes: Whether its files have owners and modes of their own.
    """

    point: str
    file_system: str
    has_modes: bool


def mount_of(descriptor: int, proc: Path = Path("/proc/self")) -> Mount | None:
    """Return the mount that an open file is on; `None` where the system does not tell."""
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
    """Judge a file of a user who is neither this one, root nor the owner of its directory.

    One that was merely found may be planted, as in /tmp. One that is a mount of its own was named
    by whoever started the container.
    """
    mounted = mount is not None and mount.point == real_path
    return _OWNED_BY_OTHERS if named or mounted else _PLANTED_BY_KIND[kind]


def without_modes(mount: Mount) -> Problem:
    """Return that nobody can tell who may read or write to a file."""
    return Problem(
        "no_file_modes",
        f"its file system ({mount.file_system}) does not tell who may change the file",
        "keep it on one that does, such as that of the home directory",
        severity="warning",
    )


def is_mounted_secret(real_path: str) -> bool:
    """Return whether a container runtime put a file there.

    Docker and Podman mount secrets below /run/secrets. A Kubernetes volume keeps its files in a
    directory such as `..2024_05_01_10_00_00.123456`, to which `..data` points.

    Args:
        real_path: The file's path, free of symlinks.

    Example:
        >>> is_mounted_secret("/etc/zilliz/..2024_05_01_10_00_00.1/token")
        True
    """
    parts = PurePath(real_path).parts
    return real_path.startswith(_CONTAINER_SECRETS) or any(part.startswith("..") for part in parts)
