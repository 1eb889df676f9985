"""Where a value stood: the variable, the file and the line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Origin:
    """The place a value was written, precise enough to go and change it.

    Args:
        source: Kind of source: `environment`, `dotenv`, `secrets directory`,
            `service binding`, `code`.
        key: The name as written there, e.g. `ZILLIZ_PROD_TOKEN`.
        path: The file it stood in, as the user named it; `None` for the environment and code.
        line: Line in that file, from 1; `None` where the file is the value.
        via: The file that a `_FILE` variable pointed to; `None` otherwise.

    Example:
        >>> str(Origin("dotenv", "ZILLIZ_PROD_URI", ".env", 3))
        'ZILLIZ_PROD_URI (.env:3)'
        >>> str(Origin("environment", "ZILLIZ_PROD_URI"))
        'ZILLIZ_PROD_URI (environment)'
    """

    source: str
    key: str
    path: str | None = None
    line: int | None = None
    via: str | None = None

    def __str__(self) -> str:
        place = self.source if self.path is None else self.path
        if self.line is not None:
            place = f"{place}:{self.line}"
        if self.via is not None:
            place = f"{place}, file {self.via}"
        return f"{self.key} ({place})"
