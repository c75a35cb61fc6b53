"""Jobs that write down each of their runs outside Redis, and what must be true of those notes in the end.

A line is one ``write`` on a descriptor opened with O_APPEND: lines of many workers do not mix, and one that a killed
worker has written stays.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from rq import Queue
from rq.job import Job, JobStatus, Retry
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from support.processes import lives


def note(file: str, *words: object) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    finally:
        os.close(descriptor)


def work(file: str, name: str, seconds: float) -> str:
    """Begin, take a while, end."""
    note(file, "begin", name, os.getpid())
    time.sleep(seconds)
    note(file, "end", name, os.getpid())
    return name


def work_in_vain(file: str, name: str, seconds: float) -> None:
    """Begin, take a while, raise."""
    note(file, "begin", name, os.getpid())
    time.sleep(seconds)
    note(file, "raise", name, os.getpid())
    raise ValueError("on purpose")


def work_with_helpers(file: str, name: str, seconds: float) -> str:
    """As :func:`work`, leaving behind a process, and one of its own, that live for five minutes."""
    note(file, "begin", name, os.getpid())
    code = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-Sc', 'import time; time.sleep(300)']);"
        "time.sleep(300)"
    )
    helper = subprocess.Popen([sys.executable, "-Sc", code], start_new_session=True)
    note(file, "helper", name, helper.pid)
    time.sleep(seconds)
    note(file, "end", name, os.getpid())
    return name


@dataclass
class Run:
    """One run of a job: who ran it, and whether the function came to its end."""

    pid: int
    outcome: str = ""


@dataclass
class Ledger:
    """The jobs of a test, of several kinds, and their notes."""

    file: Path
    jobs: dict[str, Job] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

    def enqueue(self, queue: Queue, dice: random.Random) -> Job:
        """One more job of a kind that the dice choose."""
        kind = dice.choices(["quick", "slow", "failing", "retried", "helpers"], [6, 3, 1, 1, 0.5])[0]
        function = {"failing": work_in_vain, "retried": work_in_vain, "helpers": work_with_helpers}.get(kind, work)
        seconds = dice.uniform(0.3, 1.0) if kind == "slow" else dice.uniform(0.0, 0.03)
        may_retry = kind == "retried" or (kind == "slow" and dice.random() < 0.5)
        name = f"{kind}-{len(self.jobs)}"
        retry = Retry(max=1, interval=dice.choice([0, 1])) if may_retry else None
        job = queue.enqueue(function, str(self.file), name, seconds, job_id=name, retry=retry, result_ttl=3600)
        self.jobs[name], self.kinds[name] = job, kind
        return job

    def runs(self) -> dict[str, list[Run]]:
        """The runs of each job, in the order in which they began."""
        found: dict[str, list[Run]] = defaultdict(list)
        for line in self._lines():
            verb, name, pid = line
            if verb == "begin":
                found[name].append(Run(int(pid)))
            elif verb != "helper":
                next(run for run in reversed(found[name]) if run.pid == int(pid)).outcome = verb
        return found

    def helpers(self) -> list[int]:
        """Processes that jobs have left behind and that live."""
        return [int(pid) for verb, _, pid in self._lines() if verb == "helper" and lives(int(pid))]

    def _lines(self) -> list[list[str]]:
        text = self.file.read_text() if self.file.exists() else ""
        return [line.split() for line in text.splitlines() if len(line.split()) == 3]

    def open_jobs(self) -> list[str]:
        """Jobs that are neither finished nor failed, in one call."""
        names = list(self.jobs)
        if not names:
            return []
        pipeline = self.jobs[names[0]].connection.pipeline(transaction=False)
        for name in names:
            pipeline.hget(self.jobs[name].key, "status")
        statuses = pipeline.execute()
        return [name for name, status in zip(names, statuses, strict=True) if status not in (b"finished", b"failed")]

    def forget_all(self) -> None:
        """Redis has lost them."""
        self.jobs.clear()
        self.kinds.clear()


def check_accounts(ledger: Ledger, queues: Collection[Queue], lost: Collection[int]) -> None:
    """Every job has ended, in one registry, with a reason, and ran twice only where its worker was lost.

    Args:
        ledger: The jobs.
        queues: All queues that they went to.
        lost: Pids of workers that were lost, as far as Redis knows, or that a release has ended.
    """
    assert ledger.open_jobs() == []
    finished = [name for queue in queues for name in FinishedJobRegistry(queue=queue).get_job_ids()]
    failed = [name for queue in queues for name in FailedJobRegistry(queue=queue).get_job_ids()]
    assert sorted(name for name in finished + failed if name in ledger.jobs) == sorted(ledger.jobs)
    for queue in queues:
        assert queue.get_job_ids() == []
        assert StartedJobRegistry(queue=queue).get_job_ids(cleanup=False) == []
    runs = ledger.runs()
    for name, job in ledger.jobs.items():
        _check_job(ledger.kinds[name], job, runs[name], finished=name in finished, lost=set(lost))


def _check_job(kind: str, job: Job, runs: list[Run], *, finished: bool, lost: set[int]) -> None:
    name = job.id
    told = f"{name}: {runs}"
    assert runs, f"{told}: it ended and was never begun"
    assert job.get_status() is (JobStatus.FINISHED if finished else JobStatus.FAILED), told
    result = job.latest_result()
    assert result is not None, told
    if finished:
        assert kind not in ("failing", "retried"), told
        assert any(run.outcome == "end" for run in runs), told
        assert job.return_value() == name, told
        assert sum(one.return_value is not None for one in job.results()) == 1, told
    else:
        text = str(result.exc_string)
        guilty = re.search(r"WorkerLostError: .*", text)
        assert guilty or (kind in ("failing", "retried") and "on purpose" in text), f"{told}: {text}"
        assert guilty is None or lost & {run.pid for run in runs}, f"{told}: {text}"
    retries = 1 if kind == "retried" else 0
    for run in runs[:-1]:
        if run.pid in lost:
            continue
        if run.outcome == "raise" and retries:
            retries -= 1
            continue
        assert not run.outcome, f"{told}: pid {run.pid} ended it, was never lost, and yet it ran again"
        assert not lives(run.pid), f"{told}: it ran again while pid {run.pid} was at it"
