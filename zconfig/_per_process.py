"""Attributes that are reset in a forked child, where the thread that holds a lock is missing."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_attributes: list[PerProcess[Any]] = []
_making = threading.RLock()


class PerProcess(Generic[T]):
    """An attribute that is created on its first use, and again in each forked child.

    A lock that the parent's threads hold is replaced in the child, not released: the thread that
    forks may hold it, and then releases the lock that it took.

    Args:
        make: The function that creates the value, e.g. `threading.Lock`.

    Examples:
        >>> import threading
        >>> class Pool:
        ...     lock = PerProcess(threading.Lock)
        >>> pool = Pool()
        >>> with pool.lock:
        ...     vars(Pool)["lock"].renew()  # as in a child process
        ...     pool.lock.locked()
        False
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._owners: weakref.WeakSet[object] = weakref.WeakSet()
        _attributes.append(self)

    def __set_name__(self, _: type, name: str) -> None:
        self._name = f"{name} of this process"

    # Does not use `vars(owner)`, which makes every later attribute access of the object slower.
    def __get__(self, owner: object, _: type) -> T:
        try:
            value: T = getattr(owner, self._name)
        except AttributeError:
            return self._made(owner)
        return value

    def __set__(self, owner: object, value: T) -> None:
        self._owners.add(owner)
        setattr(owner, self._name, value)

    def _made(self, owner: object) -> T:
        if owner is None:
            raise AttributeError(self._name)  # the class has no value
        self._owners.add(owner)  # first: another thread may fork before the value is set
        with _making:
            if not hasattr(owner, self._name):
                setattr(owner, self._name, self._make())
        value: T = getattr(owner, self._name)
        return value

    def renew(self) -> None:
        """Delete the values; each owner's next use creates one."""
        owners, self._owners = self._owners, weakref.WeakSet()
        for owner in owners:
            with suppress(AttributeError):
                delattr(owner, self._name)


def renew_all() -> None:
    """Delete all values, as the first step in a forked child."""
    global _making  # noqa: PLW0603 - a thread of the parent may hold it
    _making = threading.RLock()
    for attribute in _attributes:
        attribute.renew()
