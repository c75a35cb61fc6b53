"""Celery, prefork with two processes."""

import os
import subprocess
import sys

import common
from celery import Celery

SOCKET = os.environ["SOCKET"]
app = Celery("celery_peer", broker=f"redis+socket://{SOCKET}", backend=f"redis+socket://{SOCKET}")
app.conf.update(worker_prefetch_multiplier=64, task_ignore_result=False, broker_connection_retry_on_startup=True)


@app.task(name="noop")
def noop(x):
    return x


@app.task(name="nap")
def nap(seconds):
    return common.nap(seconds)


if __name__ == "__main__":
    options = common.arguments()
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "celery_peer", "worker", "-c", "2", "-l", "ERROR"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    tasks = {"noop": noop, "nap": nap}

    def many(name: str, argument: float, count: int) -> None:
        for result in [tasks[name].delay(argument) for _ in range(count)]:
            result.get(timeout=120)

    try:
        common.measure(many, lambda: noop.delay(0).get(timeout=60), options)
    finally:
        worker.terminate()
        worker.wait(20)
