"""Celery tasks that use the connections of the process that runs them.

    pip install ./zconfig celery
    ZILLIZ_URI=http://localhost:19530 celery -A celery_app worker
    celery -A celery_app call celery_app.ping --args '["default"]'

Celery forks its workers; each opens connections of its own, on first use. The queue consists of
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
    # An outage passes: the task is tried again until it has, after at most 30 s each time.
    autoretry_for=(zconfig.UnreachableError,),
    retry_backoff=True,
    retry_backoff_max=30,
    max_retries=None,
    # A worker that is killed leaves its task to another one.
    acks_late=True,
    reject_on_worker_lost=True,
)
def ping(alias: str, timeout: float = 2) -> dict[str, object]:
    """Tell how fast the server of an alias answers, and which worker asked."""
    milliseconds = zconfig.connections[alias].ping(timeout=timeout)
    return {"milliseconds": round(milliseconds, 1), "worker": os.getpid()}
