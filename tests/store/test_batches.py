"""Ends and claims in one call: many jobs at once, in order, each booked once, seen through RQ's own eyes."""

from __future__ import annotations

import itertools
import pickle
from base64 import b64encode

import pytest
from rq import Queue
from rq.job import Job, JobStatus
from support import jobs as tasks

from gutscore_rs.store import Claim, End, Store
from gutscore_rs.tasks import Tasks

NAME = "w"


@pytest.fixture
def queue(store: Store) -> Queue:
    return Queue(f"{store.case}:tasks", connection=store.client)


def fill(store: Store, count: int) -> list[str]:
    return [job.id for job in Tasks(store).enqueue_many([(tasks.square, (n,)) for n in range(count)])]


def take(store: Store, queue: Queue, most: int, worker: str = NAME) -> list[Claim]:
    return list(store.jobs.exchange([queue.name], worker, most=most).claims)


def end(claim: Claim, value: object = 7) -> End:
    result = b64encode(pickle.dumps(value))
    return End(claim.queue, claim.job_id, claim.execution, 100, claim.started_at, claim.started_at + 0.5, result)


def test_a_batch_is_taken_in_order_and_booked_as_started(store: Store, queue: Queue) -> None:
    ids = fill(store, 10)
    claims = take(store, queue, 5)
    assert [claim.job_id for claim in claims] == ids[:5]
    assert len({claim.execution for claim in claims}) == 5
    assert queue.job_ids == ids[5:]
    assert set(queue.started_job_registry.get_job_ids(cleanup=False)) == set(ids[:5])
    assert {job_id for job_id, _, _ in store.jobs.held_by(NAME)} == set(ids[:5])
    scores = [score for _, score in store.client.zrange(store.rq_keys.started(queue.name), 0, -1, withscores=True)]
    # One after the other: each may take its whole timeout.
    assert [round(later - sooner) for sooner, later in itertools.pairwise(scores)] == [180] * 4


def test_ends_and_the_next_claim_go_in_one_call(store: Store, queue: Queue) -> None:
    ids = fill(store, 6)
    claims = take(store, queue, 3)
    got = store.jobs.exchange([queue.name], NAME, [end(claim) for claim in claims], most=2, worked=1.5)
    assert got.outcomes == ["ok"] * 3
    assert [claim.job_id for claim in got.claims] == ids[3:5]
    assert got.more
    for job_id in ids[:3]:
        job = Job.fetch(job_id, connection=store.client)
        assert (job.get_status(), job.return_value()) == (JobStatus.FINISHED, 7)
        assert job.ended_at is not None
        assert job.started_at is not None
        assert (job.ended_at - job.started_at).total_seconds() == pytest.approx(0.5, abs=1e-5)
    counted = store.client.hmget(store.rq_keys.worker(NAME), "successful_job_count", "total_working_time")
    assert counted == [b"3", b"1.5"]
    assert set(queue.finished_job_registry.get_job_ids()) == set(ids[:3])


def test_few_jobs_are_shared_by_the_workers_of_their_queue(store: Store, queue: Queue) -> None:
    fill(store, 12)
    store.jobs.register_workers({name: {"birth": "x"} for name in ("a", "b", "c")}, [queue.name])
    assert len(take(store, queue, 50, "a")) == 2
    assert len(take(store, queue, 50, "b")) == 2
    assert len(take(store, queue, 1, "c")) == 1


def test_a_repeated_end_changes_nothing_and_says_so(store: Store, queue: Queue) -> None:
    fill(store, 2)
    ends = [end(claim) for claim in take(store, queue, 2)]
    for _ in range(2):
        assert store.jobs.exchange([queue.name], NAME, ends, most=0).outcomes == ["ok", "ok"]
    assert store.client.hget(store.rq_keys.worker(NAME), "successful_job_count") == b"2"
    assert [len(Job.fetch(one.job_id, connection=store.client).results()) for one in ends] == [1, 1]


def test_of_a_batch_only_what_was_taken_away_is_refused(store: Store, queue: Queue) -> None:
    fill(store, 3)
    claims = take(store, queue, 3)
    store.jobs.put_back(claims[1].job_id, claims[1].execution, queue.name, NAME)
    other = take(store, queue, 1, "other")
    assert [claim.job_id for claim in other] == [claims[1].job_id]
    outcomes = store.jobs.exchange([queue.name], NAME, [end(claim) for claim in claims], most=0).outcomes
    assert outcomes == ["ok", "fenced", "ok"]
    assert Job.fetch(claims[1].job_id, connection=store.client).get_status() is JobStatus.STARTED


@pytest.mark.parametrize("way", ["cancel", "delete"])
def test_what_its_user_took_away_meanwhile_stays_away(store: Store, queue: Queue, way: str) -> None:
    fill(store, 2)
    claims = take(store, queue, 2)
    job = Job.fetch(claims[0].job_id, connection=store.client)
    getattr(job, way)()
    outcomes = store.jobs.exchange([queue.name], NAME, [end(claim) for claim in claims], most=0).outcomes
    assert outcomes == ["fenced", "ok"]
    assert store.client.exists(job.key) == (way == "cancel")
    assert queue.finished_job_registry.get_job_ids() == [claims[1].job_id]
    assert store.jobs.held_by(NAME) == []


def test_dependents_make_one_end_of_a_batch_rqs_business(store: Store, queue: Queue) -> None:
    ids = fill(store, 2)
    queue.enqueue(tasks.square, 1, depends_on=ids[0])
    claims = take(store, queue, 2)
    outcomes = store.jobs.exchange([queue.name], NAME, [end(claim) for claim in claims], most=0).outcomes
    assert outcomes == ["complex", "ok"]
    assert store.jobs.holds(claims[0])


def test_a_reader_of_rq_does_not_make_a_dead_workers_batch_forgotten(store: Store, queue: Queue) -> None:
    from rq.worker import SimpleWorker

    ids = fill(store, 4)
    take(store, queue, 2)
    reader = SimpleWorker([queue], name=NAME, connection=store.client, prepare_for_work=False)
    assert reader.get_current_executions(refresh=True) == []
    assert store.client.scard(store.rq_keys.worker_executions(NAME)) == 0
    assert {job_id for job_id, _, _ in store.jobs.held_by(NAME)} == set(ids[:2])


def test_garbage_among_the_ids_is_passed_over_and_the_rest_taken(store: Store, queue: Queue) -> None:
    store.client.rpush(queue.key, b"\xff\xfe", "no such job", "unknown")
    ids = fill(store, 3)
    store.client.rpush(queue.key, ids[0])
    assert [claim.job_id for claim in take(store, queue, 10)] == ids
    assert take(store, queue, 10) == []
    assert queue.job_ids == []


def test_many_are_enqueued_once_and_read_when_they_are_looked_at(store: Store, queue: Queue) -> None:
    jobs = Tasks(store).enqueue_many([("support.jobs.square", (n,)) for n in range(700)], timeout=9, result_ttl=60)
    assert queue.job_ids == [job.id for job in jobs]
    assert (jobs[3].args, jobs[3].timeout, jobs[3].result_ttl, jobs[3].origin) == ((3,), 9, 60, queue.name)
    assert jobs[3].description == "support.jobs.square(3)"
    with pytest.raises(TypeError, match="executor"):
        Tasks(store).enqueue_many([(lambda: 1, ())])
    assert len(queue) == 700
