"""tests/support/step_list.py has every step of a case's life: what is not there, no fault was tried at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from rq.job import Job
from support import jobs
from support.lanes import Lane
from support.step_list import JOB, PERIODIC, RELEASE, REQUEST
from support.waiting import wait_until

Trace = list[tuple[str, int, str]]


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[Lane]:
    made = Lane(tmp_path, "lane", keep_trace=True)
    made.ready()
    yield made
    made.close()


def live(lane: Lane) -> Trace:
    """One life: request, jobs, release; its steps."""
    case, trace = lane.case, lane.proxy.trace
    assert trace is not None
    begin = len(trace)
    case.request(nworkers=2)
    wait_until(lambda: lane.is_whole(0), 10, what="the set is whole")
    for job in (case.queue().enqueue(jobs.square, 2), case.queue().enqueue(jobs.fail)):
        wait_until(lambda job=job: job.get_status() in ("finished", "failed"), 10, what="the job ended")
    killed: Job = case.queue().enqueue(jobs.kill_myself)
    wait_until(lambda: killed.get_status() == "failed", 10, what="the job that killed its worker failed")
    wait_until(lambda: lane.is_whole(0), 10, what="the set is whole again")
    case.operations.release(0, 20.0)
    operations = {pid for kind, pid, _ in trace if kind == "operation"}
    wait_until(lambda: finished(trace) == operations, 5, what="the operations are booked")
    return trace[begin:]


def finished(trace: Trace) -> set[int]:
    return {pid for kind, pid, step in trace if kind == "operation" and step == "exchange"}


def in_order(trace: Trace, pid: int) -> tuple[str, ...]:
    """The steps of a process, numbered; of looks that are repeated until they show something, the first three."""
    seen: Counter[str] = Counter()
    out = []
    for _, who, step in trace:
        if who == pid:
            seen[step] += 1
            if step != "HGETALL resource_set" or seen[step] <= 3:
                out.append(step if seen[step] == 1 else f"{step}#{seen[step]}")
    return tuple(out)


def test_the_list_has_every_step_and_no_other(lane: Lane) -> None:
    trace = live(lane)
    # A bell that rings twice brings operations that find nothing to do.
    first, last = dict.fromkeys(pid for kind, pid, step in trace if (kind, step) == ("operation", "transition"))
    assert in_order(trace, first) == REQUEST["operation"]
    assert in_order(trace, last) == RELEASE["operation"]
    (recovery,) = {pid for kind, pid, _ in trace if kind == "recovery"}
    assert in_order(trace, recovery) == JOB["recovery"]
    for kind in ("provisioner", "launcher", "worker"):
        listed = {step.split("#")[0] for phase in (REQUEST, JOB, RELEASE) for step in phase.get(kind, ())}
        at_times = set(PERIODIC.get(kind, ()))
        assert {step for who, _, step in trace if who == kind} - at_times == listed - at_times, f"steps of a {kind}"
