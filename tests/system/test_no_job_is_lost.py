"""Thousands of short jobs while workers are killed at random moments: each is accounted for, none runs twice."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

import psutil
import pytest
from rq import Queue
from rq.job import Job, JobStatus
from support import rq_workers as tasks
from support.cases import LiveCase
from support.rq_workers import OURS, RqSite
from support.servers import Server
from support.waiting import wait_until

from gutscore_rs.tasks import Tasks

JOBS = 3000


class Killer:
    """Kills one of the processes that a function names, again and again, at moments that a seed decides."""

    def __init__(self, seed: int, victims: Callable[[], list[int]]) -> None:
        self._random = random.Random(seed)
        self._victims = victims
        self._enough = threading.Event()
        self.kills = 0
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._enough.wait(self._random.uniform(0.01, 0.15)):
            victims = self._victims()
            if victims:
                with suppress(ProcessLookupError):
                    os.kill(self._random.choice(victims), signal.SIGKILL)
                    self.kills += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()


def account(jobs: list[Job], kills: int) -> None:
    """Every job ended once, with a reason if badly; only what a killed worker was running may end so."""
    client = jobs[0].connection
    statuses = [JobStatus(client.hget(job.key, "status").decode()) for job in jobs]
    assert set(statuses) <= {JobStatus.FINISHED, JobStatus.FAILED}
    failed = [job for job, status in zip(jobs, statuses, strict=True) if status is JobStatus.FAILED]
    assert kills > 2
    assert len(failed) <= kills
    for job in failed:
        result = job.latest_result()
        assert result is not None
        assert "WorkerLost" in result.exc_string
    runs = [int(client.get(f"n{number}") or 0) for number in range(len(jobs))]
    assert max(runs) == 1
    for status, times in zip(statuses, runs, strict=True):
        assert times == 1 or status is JobStatus.FAILED


@pytest.mark.parametrize("nqueues", [1, 3])
def test_every_job_ends_once_whichever_workers_are_killed(case: LiveCase, nqueues: int) -> None:
    names = [f"q{n}" for n in range(nqueues)]
    sender = Tasks(case.store, tuple(names))
    case.request(nworkers=3, runtime=600, queues=[f"test:{name}" for name in names], max_restarts=1000)
    jobs: list[Job] = []
    with Killer(nqueues, case.pids) as killer:
        for number in range(0, JOBS, 100):
            name = names[number // 100 % nqueues]
            jobs += sender.enqueue_many([(tasks.count, (f"n{n}",)) for n in range(number, number + 100)], queue=name)
        queues = [sender.queue(name) for name in names]
        wait_until(lambda: ended(queues) == JOBS, 90, what="all jobs end")
    account(jobs, killer.kills)
    assert sum(queue.started_job_registry.get_job_count(cleanup=False) for queue in queues) == 0


def ended(queues: list[Queue]) -> int:
    return sum(
        queue.finished_job_registry.get_job_count(cleanup=False)
        + queue.failed_job_registry.get_job_count(cleanup=False)
        for queue in queues
    )


def performers(supervisor: int) -> list[int]:
    """Children that have had time to begin: one that dies at once, again and again, is started ever more rarely."""
    begun = time.time() - 0.2
    return [child.pid for child in psutil.Process(supervisor).children() if child.create_time() < begun]


def test_a_worker_of_its_own_loses_no_job_when_its_performer_is_killed(server: Server) -> None:
    site = RqSite(server, server.client(), OURS)
    jobs = [site.queue().enqueue(tasks.count, f"n{n}") for n in range(1000)]
    with (
        site.worker() as process,
        Killer(7, lambda: performers(process.pid)) as killer,
    ):
        wait_until(lambda: ended([site.queue()]) == 1000, 60, what="all jobs end")
    account(jobs, killer.kills)
    site.connection.close()
