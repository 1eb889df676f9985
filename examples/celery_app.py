"""Celery tasks that use the connections of the process that runs them.

    pip install ./zconfig celery
    ZILLIZ_URI=http://localhost:19530 celery -A celery_app worker
    celery -A celery_app call celery_app.ping --args '["default"]'

A worker forks children; each opens connections of its own, on first use. The queue consists of
files in the working directory, so that this runs without a broker; CELERY_BROKER_URL and
CELERY_RESULT_BACKEND name yours.
"""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery

import zconfig

QUEUE = Path("celery-queue").absolute()
QUEUE.mkdir(exist_ok=True)

app = Celery("celery_app", broker="filesystem://", backend=f"file://{QUEUE}")
app.conf.broker_transport_options = {
    "data_folder_in": QUEUE,
    "data_folder_out": QUEUE,
    "control_folder": QUEUE,
    "polling_interval": 0.1,
}
app.conf.broker_connection_retry_on_startup = True


@app.task(
    # The task is retried until an outage ends, after pauses of at most 30 s.
    autoretry_for=(zconfig.UnreachableError,),
    retry_backoff=True,
    retry_backoff_max=30,
    max_retries=None,
    # If a child is killed, another one runs its task.
    acks_late=True,
    reject_on_worker_lost=True,
)
def ping(alias: str, timeout: float = 2) -> dict[str, object]:
    """Return the round trip to the server of an alias, and the process ID of the child."""
    milliseconds = zconfig.connections[alias].ping(timeout=timeout)
    return {"milliseconds": round(milliseconds, 1), "worker": os.getpid()}
