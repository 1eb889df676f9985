"""A unary method whose answer is known already: nobody has to be asked."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any


class Remembered:
    """Answers each call at once with the same response.

    Args:
        response: The response.
    """

    def __init__(self, response: Any) -> None:
        self._response = response

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        """Return the response, whatever the request."""
        return self._response

    def with_call(self, *_args: Any, **_kwargs: Any) -> tuple[Any, Future[Any]]:
        """Return the response, and a call that is over."""
        return self._response, self.future()

    def future(self, *_args: Any, **_kwargs: Any) -> Future[Any]:
        """Return a call that is over."""
        over: Future[Any] = Future()
        over.set_result(self._response)
        return over
