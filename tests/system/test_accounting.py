"""Every job is accounted for, whatever dies while they run."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
from pathlib import Path

import pytest
from rq import Queue
from rq.job import Job, JobStatus, Retry
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from support import jobs
from support.cases import LiveCase
from support.waiting import wait_until

from gutscore_rs.processes import send_signal
from gutscore_rs.store import task_queue

JOBS = 300
KILLS = 25
SEED = 20260101


def kill_at_random(case: LiveCase, done: list[Job], dice: random.Random) -> list[int]:
    """Kill workers, and one launcher in the middle, while jobs run; the workers' pids."""
    killed = []
    for number in range(KILLS):
        before = progress(done)
        if number == KILLS // 2:
            send_signal(case.launcher(1), signal.SIGKILL)
        elif pids := [*case.pids(0), *case.pids(1)]:
            victim = dice.choice(pids)
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)
        goal = before + dice.randint(1, 5)
        wait_until(lambda goal=goal: progress(done) >= min(goal, JOBS), 10, what="work goes on", interval=0.02)
    return killed


def progress(done: list[Job]) -> int:
    pipeline = done[0].connection.pipeline()
    for job in done:
        pipeline.hget(job.key, "status")
    return sum(status in (b"finished", b"failed") for status in pipeline.execute())


def traces(case: LiveCase) -> list[bytes]:
    """Keys of executions that go on, or were forgotten."""
    return [
        key
        for pattern in ("rq:execution*", "rq:worker:*:executions", "rq:wip:*")
        for key in case.store.client.scan_iter(pattern)
    ]


def begun(marks: Path) -> set[str]:
    return {file.name for file in marks.iterdir()}


@pytest.mark.parametrize("queues", [1, 3])
def test_every_job_ends_once_and_with_a_reason_whatever_is_killed(case: LiveCase, tmp_path: Path, queues: int) -> None:
    dice = random.Random(SEED + queues)
    marks = tmp_path / "marks"
    marks.mkdir()
    names = [task_queue(case.name, f"q{number}") for number in range(queues)]
    lists = [Queue(name, connection=case.store.client) for name in names]
    for wgroup_id in (0, 1):
        case.request(wgroup_id, nworkers=3, queues=names, max_restarts=100)
    done = [
        dice.choice(lists).enqueue(
            jobs.leave_mark,
            str(marks / str(number)),
            dice.uniform(0, 0.05),
            job_id=f"job-{number}",
            retry=Retry(max=1) if number % 3 == 0 else None,
        )
        for number in range(JOBS)
    ]
    killed = kill_at_random(case, done, dice)
    wait_until(lambda: progress(done) == JOBS, 30, what="every job ended", interval=0.05)

    guilty = []
    for queue in lists:
        finished = set(FinishedJobRegistry(queue=queue).get_job_ids())
        failed = set(FailedJobRegistry(queue=queue).get_job_ids())
        of_queue = [job for job in done if job.origin == queue.name]
        assert finished | failed == {job.id for job in of_queue}
        assert not finished & failed
        assert queue.get_job_ids() == []
        assert StartedJobRegistry(queue=queue).get_job_ids(cleanup=False) == []
        for job in of_queue:
            assert job.get_status() is (JobStatus.FINISHED if job.id in finished else JobStatus.FAILED)
            (result,) = job.results()
            if job.id in failed:
                found = re.search(
                    r"WorkerLostError: worker \d \(pid (\d+) on [\w-]+\) was killed by SIGKILL", str(result.exc_string)
                )
                assert found, result.exc_string
                guilty.append(int(found[1]))
            else:
                assert job.id.removeprefix("job-") in begun(marks)
    # A killed worker takes the one job along that it had begun, and no other.
    assert len(guilty) == len(set(guilty))
    assert set(guilty) <= set(killed)
    case.wait_active(0, 3)
    case.wait_active(1, 3)
    # The operations that launched sets again may need a moment to be booked.
    wait_until(lambda: not traces(case), 5, what=f"no trace of an execution is left: {traces(case)}")
    registered = [*case.store.workers.registered(0, case.host), *case.store.workers.registered(1, case.host)]
    assert sorted(worker.pid for worker in registered) == sorted(case.pids(0) + case.pids(1))
