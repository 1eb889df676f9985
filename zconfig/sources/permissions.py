"""Whether a file's owner and mode are fit for what it holds."""

from __future__ import annotations

import os
import stat
from pathlib import PurePath
from typing import Literal

from zconfig.errors import Problem

FileKind = Literal["secret", "dotenv"]

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
