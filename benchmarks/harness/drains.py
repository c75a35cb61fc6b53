"""How fast workers empty a queue that was filled before they started: without the time that filling and starting take.

The clock runs from the first job that is finished to the last; what ended before it does not count.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rq import Queue
from support import jobs
from support.cases import LiveCase

from harness import ROOT
from harness.peers import end

QUEUE = "test:tasks"
FINISHED = f"rq:finished:{QUEUE}"


@dataclass(frozen=True, slots=True)
class Drained:
    """What was measured.

    Attributes:
        rate: Jobs per second.
        server_us: Microseconds of the server's processor for each.
        commands: Commands that the server carried out for each, those of scripts included.
        calls: Calls of scripts by workers for each.
    """

    rate: float
    server_us: float
    commands: float
    calls: float


def drain(case: LiveCase, workers: Callable[[], object], count: int) -> Drained:
    """Fill the queue, start workers (a context manager), and measure until it is empty."""
    client = case.store.client
    client.delete(FINISHED)
    for pattern in ("rq:job:*", "rq:results:*"):
        keys = client.keys(pattern)
        for first in range(0, len(keys), 1000):
            client.delete(*keys[first : first + 1000])
    queue = Queue(QUEUE, connection=client)
    for first in range(0, count, 1000):
        part = min(1000, count - first)
        queue.enqueue_many([Queue.prepare_data(jobs.square, (1,)) for _ in range(part)])
    with workers():  # type: ignore[attr-defined]
        while not client.zcard(FINISHED):
            time.sleep(0.001)
        client.config_resetstat()
        before, began, cpu = client.zcard(FINISHED), time.perf_counter(), _cpu(case)
        while client.zcard(FINISHED) < count:
            time.sleep(0.003)
        wall, done = time.perf_counter() - began, count - before
        used, stats = _cpu(case) - cpu, client.info("commandstats")
    ours = {"cmdstat_zcard", "cmdstat_info"}
    commands = sum(row["calls"] for name, row in stats.items() if name not in ours)
    calls = stats.get("cmdstat_evalsha", {}).get("calls", 0)
    return Drained(done / wall, used / done * 1e6, commands / done, calls / done)


def _cpu(case: LiveCase) -> float:
    info = case.store.client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def rq_workers(case: LiveCase, worker_class: str) -> Callable[[], object]:
    """Two workers started as ``rq worker`` does."""

    @contextmanager
    def running() -> Iterator[None]:
        path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "rq.cli", "worker", "-u", case.server.url, "-w", worker_class, QUEUE]
        started = [
            subprocess.Popen(
                command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            for _ in range(2)
        ]
        try:
            yield
        finally:
            end(started)

    return running


def our_set(case: LiveCase, number: int, **spec: object) -> Callable[[], object]:
    """A resource set of two workers."""

    @contextmanager
    def running() -> Iterator[None]:
        case.request(number, nworkers=2, runtime=600, wait=False, **spec)
        try:
            yield
        finally:
            case.operations.release(number)

    return running
