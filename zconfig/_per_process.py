"""Attributes that a child process makes anew: the thread that holds a lock is not there."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_made: weakref.WeakKeyDictionary[object, dict[str, Callable[[], Any]]] = weakref.WeakKeyDictionary()


def per_process(owner: object, name: str, make: Callable[[], T]) -> T:
    """Return the first value of an attribute, which each child process makes anew.

    A lock is replaced, not released: where the thread that forks holds it, that one releases it.

    Args:
        owner: What has the attribute, an object or a module.
        name: The attribute's name.
        make: Makes a value, e.g. `threading.Lock`.

    Example:
        >>> class Pool:
        ...     def __init__(self) -> None:
        ...         self.lock = per_process(self, "lock", threading.Lock)
        >>> import threading
        >>> pool = Pool()
        >>> pool.lock.acquire()
        True
        >>> renew(pool)
        >>> pool.lock.locked()
        False
    """
    _made.setdefault(owner, {})[name] = make
    return make()


def renew(owner: object) -> None:
    """Make the attributes of one owner anew."""
    for name, make in _made[owner].items():
        setattr(owner, name, make())


def renew_all() -> None:
    """Make them all anew, in a child process, before anything else is done there."""
    for owner in tuple(_made):
        renew(owner)
