"""Whoever is killed, or cut off, at whichever step of a job: the job ends once, with a reason, and the count is true."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from rq.job import Job, JobStatus
from support import jobs
from support.acts import Act, kill, lose
from support.lanes import Lane, Lanes, lanes_for
from support.step_list import JOB, only_looks
from support.steps import Moment
from support.waiting import wait_until

IN_TIME = 25.0
ACTS: dict[str, Act] = {"is killed": kill, "is cut off": lose}


class Point(NamedTuple):
    """What happens to whom, before or after which of its steps."""

    kind: str
    moment: Moment
    step: str
    act: str

    def __str__(self) -> str:
        return f"{self.moment} {self.step} the {self.kind} {self.act}"


def points() -> Iterator[Point]:
    for kind, steps in JOB.items():
        for step in steps:
            moments: tuple[Moment, ...] = ("before",) if only_looks(step) else ("before", "after")
            yield from (Point(kind, moment, step, act) for moment in moments for act in ACTS)


POINTS = list(points())


def how_it_ended(job: Job) -> tuple[JobStatus | None, str]:
    status = job.get_status(refresh=True)
    result = job.latest_result()
    return status, (result.exc_string or "") if result else ""


def take(lane: Lane, point: Point) -> None:
    """Three jobs of a set of two workers, with a fault at the point."""
    wgroup_id, case = lane.ready(), lane.case
    case.request(wgroup_id, nworkers=2, max_restarts=100)
    lane.becomes_whole(wgroup_id, 5)
    fault = lane.arm(point.kind, point.step, point.moment, ACTS[point.act])
    queue = case.queue()
    good, bad, deadly = queue.enqueue(jobs.square, 7), queue.enqueue(jobs.fail), queue.enqueue(jobs.kill_myself)
    ended = (JobStatus.FINISHED, JobStatus.FAILED)
    wait_until(
        lambda: all(job.get_status(refresh=True) in ended for job in (good, bad, deadly)),
        IN_TIME,
        what=f"all three jobs end although {point}",
    )
    wait_until(fault.happened.is_set, 10, what=f"{point} happens")
    lane.becomes_whole(wgroup_id, IN_TIME)
    status, reason = how_it_ended(good)
    # A job that was begun may be lost with its worker; then it says so.
    assert status is JobStatus.FINISHED or "WorkerLost" in reason, (status, reason)
    assert how_it_ended(bad)[1].startswith(("Traceback", "WorkerLost")) or "on purpose" in how_it_ended(bad)[1]
    assert "WorkerLost" in how_it_ended(deadly)[1]
    for job in (good, bad, deadly):
        assert case.store.client.xlen(f"rq:results:{job.id}") == 1, "it ended more than once"
    assert case.store.client.zcard(case.store.rq_keys.started(queue.name)) == 0
    case.operations.release(wgroup_id, 20.0)
    lane.is_gone(wgroup_id)


@pytest.fixture(scope="module")
def lanes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes[Point]]:
    yield from lanes_for(request, tmp_path_factory.mktemp("every-job"), take)


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_each_job_ends_once(lanes: Lanes[Point], point: Point) -> None:
    lanes.result(point)
