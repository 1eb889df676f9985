"""Celery with a queue of files, without two races of its own that a busy machine loses.

kombu makes a file in the queue and writes the message then: a worker that polls in between reads an
empty one, and ends.

A child of the pool has itself killed when its parent ends, which for the kernel is the thread that
forked it. Celery's ends before the children do: one that is killed while it waits for a task holds
the lock of the pool's queue, and the worker waits for that for ever.
"""

from __future__ import annotations

import time
import uuid
from pathlib import Path
from typing import Any

from billiard.util import set_pdeathsig
from celery.__main__ import main
from celery.signals import worker_process_init
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


@worker_process_init.connect
def _outlive_the_thread(**_: Any) -> None:
    set_pdeathsig(0)


if __name__ == "__main__":
    main()
