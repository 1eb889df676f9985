"""What a diagnosis comes to, and the text that goes with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zconfig.errors import ConnectError


@dataclass(frozen=True, slots=True)
class Verdict:
    """The cause of a failure.

    Args:
        error: The class that stands for the cause.
        detail: What was seen, redacted, on one line.
        hint: An observation about the surroundings that makes the cause likelier; may be empty.
        remedy: One thing to do, where it is another than the error's own.
        field: The setting at fault, e.g. `tls_key`, where more is known than the error itself says.
    """

    error: type[ConnectError]
    detail: str = ""
    hint: str = ""
    remedy: str = ""
    field: str = ""


class StageError(Exception):
    """A stage of the probe failed.

    Args:
        error: The class that stands for the cause.
        detail: What was seen.
        field: The setting at fault, where more is known than the error itself says.
        remedy: One thing to do, where it is another than the error's own.
    """

    def __init__(
        self, error: type[ConnectError], detail: str, field: str = "", remedy: str = ""
    ) -> None:
        self.error = error
        self.detail = detail
        self.field = field
        self.remedy = remedy
        super().__init__(error, detail)
