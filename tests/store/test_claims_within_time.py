"""A worker with little time left takes only what fits, and leaves the rest in its place (rulings 6)."""

from __future__ import annotations

import pytest
from rq import Queue
from support import jobs

from gutscore_rs.errors import DurationError
from gutscore_rs.store import Store, task_queue
from gutscore_rs.tasks import Tasks


def waiting(store: Store) -> list[str]:
    return Queue(task_queue(store.case, "tasks"), connection=store.client).job_ids


def claimed(store: Store, seconds: float | None) -> str | None:
    claim = store.jobs.claim([task_queue(store.case, "tasks")], "w", seconds)
    return claim.job_id if claim else None


def test_what_does_not_fit_stays_in_its_place(store: Store) -> None:
    tasks = Tasks(store)
    long = [tasks.enqueue(jobs.square, n, time_request=600).id for n in range(3)]
    short = tasks.enqueue(jobs.square, 3, time_request="1").id
    unknown = tasks.enqueue(jobs.square, 4).id
    assert claimed(store, 100.0) == short
    assert claimed(store, 100.0) == unknown
    assert claimed(store, 100.0) is None
    assert waiting(store) == long
    assert claimed(store, 601.0) == long[0]
    assert claimed(store, None) == long[1]


def test_a_job_that_just_fits_is_taken(store: Store) -> None:
    job = Tasks(store).enqueue(jobs.square, 1, time_request=60).id
    assert claimed(store, 59.9) is None
    assert claimed(store, 60.0) == job


def test_only_the_first_hundred_are_looked_at(store: Store) -> None:
    tasks = Tasks(store)
    for number in range(100):
        tasks.enqueue(jobs.square, number, time_request=600)
    tasks.enqueue(jobs.square, 0)
    assert claimed(store, 10.0) is None
    assert len(waiting(store)) == 101


def test_garbage_in_the_queue_is_dropped_by_who_has_little_time_too(store: Store) -> None:
    queue = store.rq_keys.queue(task_queue(store.case, "tasks"))
    store.client.rpush(queue, b"\xff no id", "unknown")
    job = Tasks(store).enqueue(jobs.square, 1)
    store.client.hset(store.rq_keys.job(job.id), "gs_time", "soon")
    assert claimed(store, 10.0) == job.id
    assert waiting(store) == []


@pytest.mark.parametrize("wrong", [0, -1, "1:2:3:4", "UNLIMITED", float("nan")])
def test_a_bad_time_is_refused_and_nothing_is_queued(store: Store, wrong: float | str) -> None:
    with pytest.raises(DurationError):
        Tasks(store).enqueue(jobs.square, 1, time_request=wrong)
    assert waiting(store) == []


def test_what_cannot_be_queued_leaves_nothing(store: Store) -> None:
    with pytest.raises(Exception, match="pickle"):
        Tasks(store).enqueue(jobs.square, lambda: 1, time_request=10, job_id="mine")
    assert not store.client.exists(store.rq_keys.job("mine"))
