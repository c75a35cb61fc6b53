"""Workers started as `rq worker` does, of RQ's own class and of ours, and what their jobs call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from rq import Queue, get_current_job
from rq.job import Job, Retry
from rq.worker import Worker
from support.servers import Server
from support.waiting import wait_until

TESTS = Path(__file__).parent.parent
STOCK, OURS = "rq.worker.SimpleWorker", "gutscore_rs_workers.rq_worker.RqWorker"


@dataclass
class RqSite:
    """A server, a queue on it, and workers of one class.

    Attributes:
        worker_class: Dotted name of the class.
    """

    server: Server
    connection: redis.Redis
    worker_class: str

    def queue(self, name: str = "q", **options: Any) -> Queue:
        return Queue(name, connection=self.connection, **options)

    def command(self, *queues: str, **options: object) -> list[str]:
        words = []
        for name, value in options.items():
            words.append("--" + name.replace("_", "-"))
            words += [] if value is True else [str(value)]
        command = [sys.executable, "-m", "rq.cli", "worker", "-u", self.server.url, "-w", self.worker_class]
        return [*command, *words, *(queues or ("q",))]

    def burst(self, *queues: str, **options: object) -> str:
        """Run a worker until the queues are empty; what it printed."""
        done = subprocess.run(
            self.command(*queues, burst=True, **options),
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    @property
    def env(self) -> dict[str, str]:
        return os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}

    @contextmanager
    def worker(self, *queues: str, **options: object) -> Iterator[subprocess.Popen[bytes]]:
        """A worker that serves until the block ends; it is there once RQ knows it."""
        process = subprocess.Popen(
            self.command(*queues, **options), env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: any(one.pid == process.pid for one in self.workers()), what="RQ knows the worker")
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(20)
                finally:
                    process.kill()
            process.wait()

    def workers(self) -> list[Worker]:
        return Worker.all(connection=self.connection)

    def fetch(self, job: Job) -> Job:
        return Job.fetch(job.id, connection=self.connection)


# -- what jobs call -----------------------------------------------------------------------------------------


def who_am_i(mark: str = "") -> tuple[str, dict[str, Any]]:
    """The id of the job that runs, and its meta, to which something is added."""
    job = get_current_job()
    assert job is not None
    if mark:
        job.meta["mark"] = mark
        job.save_meta()
    return job.id, job.meta


def note(job: Job, connection: redis.Redis, *more: object) -> None:
    """A callback that leaves a trace: the job and how many further arguments it got."""
    connection.rpush(f"noted:{job.id}", len(more))


def count(key: str) -> int:
    """How often a job ran, by a counter in its own Redis."""
    job = get_current_job()
    assert job is not None
    return int(job.connection.incr(key))


def ask_again(key: str, most: int) -> int | Retry:
    """Ask RQ to run it again until it ran `most` times."""
    times = count(key)
    return times if times >= most else Retry(max=most)


def fail_until(key: str, times: int) -> int:
    if count(key) < times:
        raise ValueError("not yet")
    return times


def unstorable() -> object:
    return lambda: None


async def later(value: int) -> int:
    return value + 1


class Adder:
    def __init__(self, base: int) -> None:
        self.base = base

    def add(self, value: int) -> int:
        return self.base + value


class MarkedJob(Job):
    """A job class of a user's."""

    def perform(self) -> Any:
        return ("marked", super().perform())
