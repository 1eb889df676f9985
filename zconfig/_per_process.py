"""Attributes that a child process makes anew: the thread that holds a lock is not there."""

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
    """An attribute that is made on its first use, and once more in each child process.

    What the parent's threads hold or wait for is replaced there, and not released: the thread that
    forks may hold a lock, and releases its own.

    Args:
        make: Makes the value, e.g. `threading.Lock`.

    Example:
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

    # Not by `vars(owner)`: Python reads all attributes of an object more slowly after that.
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
            raise AttributeError(self._name)  # the class has none
        self._owners.add(owner)  # first: another thread may fork before there is a value
        with _making:
            if not hasattr(owner, self._name):
                setattr(owner, self._name, self._make())
        value: T = getattr(owner, self._name)
        return value

    def renew(self) -> None:
        """Forget the values; each owner's next use makes one."""
        owners, self._owners = self._owners, weakref.WeakSet()
        for owner in owners:
            with suppress(AttributeError):
                delattr(owner, self._name)


def renew_all() -> None:
    """Forget them all, in a child process, before anything else is done there."""
    global _making  # noqa: PLW0603 - the parent's may be held by a thread that is not here
    _making = threading.RLock()
    for attribute in _attributes:
        attribute.renew()
