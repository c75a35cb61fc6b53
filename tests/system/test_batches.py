"""Batches on real workers: what was taken and not begun is never kept from others, nor lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from rq.job import JobStatus
from support import calls, jobs
from support.cases import LiveCase
from support.waiting import holds_for, wait_until

from gutscore_rs.tasks import Tasks


def warm_up(case: LiveCase) -> None:
    """Let workers see that jobs are short, so that they take many."""
    done = Tasks(case.store).enqueue_many([(jobs.square, (n,)) for n in range(2000)])
    wait_until(lambda: case.queue().finished_job_registry.count == len(done), 30, what="the workers are warm")


def test_a_job_that_lasts_keeps_nobody_waiting(case: LiveCase, tmp_path: Path) -> None:
    case.request(nworkers=1)
    warm_up(case)
    sender, go = Tasks(case.store), str(tmp_path / "go")
    first = sender.enqueue_many(
        [(jobs.square, (1,)), (calls.wait_for, (go, 60.0)), *[(jobs.square, (n,)) for n in range(20)]]
    )
    long, behind = first[1], first[2:]
    wait_until(lambda: first[0].get_status(refresh=True) is JobStatus.FINISHED, what="what came before it is booked")
    wait_until(lambda: set(case.queue().job_ids) == {job.id for job in behind}, what="the rest is back in the queue")
    assert case.queue().job_ids == [job.id for job in behind]
    assert long.get_status(refresh=True) is JobStatus.STARTED
    assert [one.job_id for one in long.get_executions()] == [long.id]
    case.request(1, nworkers=1)
    wait_until(
        lambda: all(job.get_status() is JobStatus.FINISHED for job in behind), 20, what="another worker ran them"
    )
    Path(go).touch()
    wait_until(lambda: long.get_status() is JobStatus.FINISHED, 20, what="the long one ended")
    assert long.get_executions() == []
    assert len(long.results()) == 1


@pytest.mark.parametrize("position", [0, 5])
def test_a_batch_whose_worker_is_killed_loses_the_running_job_only(
    case: LiveCase, tmp_path: Path, position: int
) -> None:
    case.request(nworkers=1)
    warm_up(case)
    marks = [str(tmp_path / f"{n}") for n in range(12)]
    some = [(calls.count_runs, (mark,)) for mark in marks]
    some.insert(position, (jobs.kill_myself, ()))
    made = Tasks(case.store).enqueue_many(some)
    killer = made.pop(position)
    wait_until(lambda: all(job.get_status() is JobStatus.FINISHED for job in made), 30, what="all others finished")
    assert killer.get_status() is JobStatus.FAILED
    assert [job.return_value() for job in made] == [1] * 12


def test_a_release_puts_back_what_was_not_begun(case: LiveCase, tmp_path: Path) -> None:
    case.request(nworkers=1)
    warm_up(case)
    go = str(tmp_path / "go")
    made = Tasks(case.store).enqueue_many([(calls.wait_for, (go, 60.0)), *[(jobs.square, (n,)) for n in range(10)]])
    wait_until(lambda: made[0].get_status() is JobStatus.STARTED, what="the first one runs")
    case.operations.release(0)
    assert case.queue().job_ids == [job.id for job in made]
    assert {job.get_status() for job in made} == {JobStatus.QUEUED}


def test_a_stopped_launchers_worker_begins_nothing_beyond_its_lease(case: LiveCase, tmp_path: Path) -> None:
    case.request(nworkers=1, batch=1)
    go = tmp_path / "go"
    first = case.queue().enqueue(calls.wait_for, str(go), 60.0)
    wait_until(lambda: first.get_status() is JobStatus.STARTED, what="it runs")
    launcher = case.launcher()
    os.kill(launcher.pid, signal.SIGSTOP)
    try:
        second = case.queue().enqueue(jobs.square, 3)
        wait_until(lambda: case.store.workers.count(0) == 0, 20, what="the lease is over")
        go.touch()
        holds_for(lambda: second.get_status() is JobStatus.QUEUED, 1.0, what="the next one is not begun")
    finally:
        os.kill(launcher.pid, signal.SIGCONT)
    # Whether or not the first one was handed on meanwhile, as that of a worker that may be lost.
    done = (first, second)
    wait_until(lambda: all(job.get_status() is JobStatus.FINISHED for job in done), 30, what="then both are done")
