"""Celery with a queue of files in which no message is read before it is written.

kombu makes a file in the queue and writes the message then: a worker that polls in between reads an
empty one, and ends.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

from celery.__main__ import main
from kombu.transport.filesystem import Channel
from kombu.utils.json import dumps


def _put(self: Channel, queue: str, payload: Any, **_: Any) -> None:
    """Put a message into the queue in one step."""
    folder = Path(self.data_folder_out)
    name = f"{time.monotonic_ns():020}_{uuid.uuid4()}.{queue}.msg"
    unfinished = folder / f"{name}.new"
    unfinished.write_text(dumps(payload), encoding="utf-8")
    unfinished.rename(folder / name)


Channel._put = _put

if __name__ == "__main__":
    main()
