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
from rq.job import Job, Retry
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


@dataclass(frozen=True)
class Outcome:
    """How a job ended, as RQ tells it; kept here, since RQ forgets.

    Attributes:
        values: What its good ends returned: at most one counts.
        error: Of its newest end.
    """

    finished: bool
    values: list[object]
    error: str


@dataclass
class Ledger:
    """The jobs of a test, of several kinds, and their notes.

    Attributes:
        keep: Seconds for which RQ keeps what has ended; collect more often.
        open: Jobs that have not ended, as far as was seen.
        ended: The others.
        lost: Those that Redis has lost.
    """

    file: Path
    keep: int = 3600
    open: dict[str, Job] = field(default_factory=dict)
    ended: dict[str, Outcome] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)

    def enqueue(self, queue: Queue, dice: random.Random) -> Job:
        """One more job of a kind that the dice choose."""
        kind = dice.choices(["quick", "slow", "failing", "retried", "helpers"], [6, 3, 1, 1, 0.5])[0]
        function = {"failing": work_in_vain, "retried": work_in_vain, "helpers": work_with_helpers}.get(kind, work)
        seconds = dice.uniform(0.3, 1.0) if kind == "slow" else dice.uniform(0.0, 0.03)
        may_retry = kind == "retried" or (kind == "slow" and dice.random() < 0.5)
        name = f"{kind}-{len(self.kinds)}"
        job = queue.enqueue(
            function,
            str(self.file),
            name,
            seconds,
            job_id=name,
            retry=Retry(max=1, interval=dice.choice([0, 1])) if may_retry else None,
            result_ttl=self.keep,
            failure_ttl=self.keep,
        )
        self.open[name], self.kinds[name] = job, kind
        return job

    def collect(self) -> bool:
        """Note down what has ended since; whether all has."""
        names = list(self.open)
        if names:
            pipeline = self.open[names[0]].connection.pipeline(transaction=False)
            for name in names:
                pipeline.hget(self.open[name].key, "status")
            for name, status in zip(names, pipeline.execute(), strict=True):
                if status in (b"finished", b"failed"):
                    self.ended[name] = _outcome(self.open.pop(name), finished=status == b"finished")
        return not self.open

    def runs(self) -> dict[str, list[Run]]:
        """The runs of each job, in the order in which they began."""
        found: dict[str, list[Run]] = defaultdict(list)
        for verb, name, pid in self._lines():
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

    def forget_open(self) -> None:
        """Redis has lost them: nothing more is asked of them, and no new job has the name of one."""
        self.lost.update(self.open)
        self.open.clear()


def _outcome(job: Job, *, finished: bool) -> Outcome:
    results = job.results()
    values = [one.return_value for one in results if one.return_value is not None]
    return Outcome(finished, values, str(results[0].exc_string) if results else "")


def check_accounts(ledger: Ledger, queues: Collection[Queue], lost: Collection[int]) -> None:
    """Every job has ended, with a reason, and ran twice only where its worker was lost.

    Args:
        ledger: The jobs.
        queues: All queues that they went to.
        lost: Pids of workers that were lost, as far as Redis knows, or that a release has ended.
    """
    assert ledger.collect(), f"not ended: {list(ledger.open)}"
    assert ledger.ended.keys() == ledger.kinds.keys() - ledger.lost
    finished = [name for queue in queues for name in FinishedJobRegistry(queue=queue).get_job_ids()]
    failed = [name for queue in queues for name in FailedJobRegistry(queue=queue).get_job_ids()]
    assert {name for name in finished if name in ledger.ended and not ledger.ended[name].finished} == set()
    assert {name for name in failed if name in ledger.ended and ledger.ended[name].finished} == set()
    for queue in queues:
        assert queue.get_job_ids() == []
        assert StartedJobRegistry(queue=queue).get_job_ids(cleanup=False) == []
    runs = ledger.runs()
    for name, outcome in ledger.ended.items():
        _check_job(name, ledger.kinds[name], outcome, runs[name], set(lost))


def _check_job(name: str, kind: str, outcome: Outcome, runs: list[Run], lost: set[int]) -> None:
    told = f"{name}: {outcome}, {runs}"
    fails = kind in ("failing", "retried")
    if outcome.finished:
        assert not fails, told
        assert any(run.outcome == "end" for run in runs), told
        assert outcome.values == [name], told
    else:
        if guilty := re.search(r"WorkerLostError: .*? \(pid (\d+)", outcome.error):
            # Its worker may have died after it took the job and before the function wrote its first line.
            assert int(guilty[1]) in lost or lost & {run.pid for run in runs}, told
        else:
            assert fails, told
            assert "on purpose" in outcome.error, told
            assert runs, f"{told}: it failed and was never begun"
        assert outcome.values == [], told
    retries = 1 if kind == "retried" else 0
    for run in runs[:-1]:
        if run.pid in lost:
            continue
        if run.outcome == "raise" and retries:
            retries -= 1
            continue
        assert not run.outcome, f"{told}: pid {run.pid} ended it, was never lost, and yet it ran again"
        assert not lives(run.pid), f"{told}: it ran again while pid {run.pid} was at it"
