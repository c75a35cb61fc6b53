"""Jobs in RQ's wire format, checked through RQ's own eyes: claimed once, ended once, put back in order."""

from __future__ import annotations

import pytest
from redis import Redis
from rq import Queue
from rq.job import Callback, Job, JobStatus
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from rq.results import Result
from rq.suspension import resume, suspend
from support import jobs as tasks

from gutscore_rs.store import Claim, Store
from gutscore_rs.store.jobs import WORKER_TTL, rq_time

NAME = "rq-worker"


@pytest.fixture
def queue(store: Store) -> Queue:
    return Queue(f"{store.case}:tasks", connection=store.client)


def claim(store: Store, *queues: Queue, worker: str = NAME) -> Claim:
    got = store.jobs.claim([queue.name for queue in queues], worker)
    assert got is not None
    return got


def finish(store: Store, got: Claim, value: object = 42, *, ttl: int = 500) -> str:
    job = Job.fetch(got.job_id, connection=store.client)
    return store.jobs.finish(got, result=job.serializer.dumps(value), result_ttl=ttl, worked=0.25)


@pytest.fixture
def twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each script runs twice with the same arguments, as when redis-py sends it again after a lost reply."""
    for name in ("evalsha", "eval"):
        once = getattr(Redis, name)

        def again(self: Redis, *arguments: object, _once=once) -> object:
            _once(self, *arguments)
            return _once(self, *arguments)

        monkeypatch.setattr(Redis, name, again)


# -- claim --------------------------------------------------------------------------------------------------


def test_a_claimed_job_is_started_for_rq_and_in_no_queue(store: Store, queue: Queue) -> None:
    job = queue.enqueue(tasks.square, 3, job_timeout=77)
    got = claim(store, queue)
    assert (got.job_id, got.queue, got.worker, got.timeout) == (job.id, queue.name, NAME, 77.0)
    assert job.get_status() is JobStatus.STARTED
    assert len(queue) == 0
    seen = Job.fetch(job.id, connection=store.client)
    assert seen.worker_name == NAME
    assert seen.started_at is not None
    assert abs(seen.started_at.timestamp() - got.started_at) < 1
    registry = StartedJobRegistry(queue=queue)
    assert registry.get_job_ids(cleanup=False) == [job.id]
    assert seen.get_executions() == []
    store.jobs.record_execution(job.id, got.execution, NAME, queue.name)
    [execution] = seen.get_executions()
    assert (execution.composite_key, execution.worker_name) == (f"{job.id}:{got.execution}", NAME)
    assert store.jobs.held_by(NAME) == [(job.id, got.execution, queue.name)]
    assert store.jobs.holds(got)


def test_the_crash_deadline_is_the_timeout_and_a_minute(store: Store, queue: Queue) -> None:
    for timeout, expected in ((77, 137), (-1, 3660), (None, 240)):
        queue.enqueue(tasks.square, 3, job_timeout=timeout)
        got = claim(store, queue)
        score = store.client.zscore(store.rq_keys.started(queue.name), f"{got.job_id}:{got.execution}")
        assert score - got.started_at == pytest.approx(expected, abs=0.01)
    StartedJobRegistry(queue=queue).cleanup()
    assert len(StartedJobRegistry(queue=queue).get_job_ids(cleanup=False)) == 3


def test_an_empty_queue_gives_nothing_and_an_idle_worker(store: Store, queue: Queue) -> None:
    assert store.jobs.claim([queue.name], NAME) is None
    assert store.client.hget(store.rq_keys.worker(NAME), "state") == b"idle"
    assert 0 < store.client.ttl(store.rq_keys.worker(NAME)) <= WORKER_TTL


def test_queues_are_served_in_their_order_and_jobs_in_theirs(store: Store, queue: Queue) -> None:
    urgent = Queue(f"{store.case}:urgent", connection=store.client)
    ids = [queue.enqueue(tasks.square, n).id for n in range(2)] + [urgent.enqueue(tasks.square, 9).id]
    order = [claim(store, urgent, queue) for _ in range(3)]
    assert [got.job_id for got in order] == [ids[2], ids[0], ids[1]]
    assert [got.queue for got in order] == [urgent.name, queue.name, queue.name]


def test_what_was_deleted_or_cancelled_meanwhile_is_skipped(store: Store, queue: Queue) -> None:
    made = [queue.enqueue(tasks.square, n) for n in range(4)]
    store.client.delete(made[0].key)
    store.client.hset(made[1].key, "status", "canceled")
    made[2].cancel()
    assert claim(store, queue).job_id == made[3].id
    assert store.jobs.claim([queue.name], NAME) is None


def test_a_suspended_rq_gives_no_jobs(store: Store, queue: Queue) -> None:
    queue.enqueue(tasks.square, 1)
    suspend(store.client)
    assert store.jobs.claim([queue.name], NAME) is None
    resume(store.client)
    claim(store, queue)


def test_a_timeout_of_garbage_is_the_default(store: Store, queue: Queue) -> None:
    job = queue.enqueue(tasks.square, 1)
    store.client.hset(job.key, "timeout", "soon")
    assert claim(store, queue).timeout == 180.0


# -- the good end -------------------------------------------------------------------------------------------


def test_a_finished_job_is_finished_for_rq(store: Store, queue: Queue) -> None:
    job = queue.enqueue(tasks.square, 3)
    got = claim(store, queue)
    assert finish(store, got) == "ok"
    seen = Job.fetch(job.id, connection=store.client)
    assert seen.get_status() is JobStatus.FINISHED
    assert seen.return_value() == 42
    result = seen.latest_result()
    assert result is not None
    assert (result.type, result.worker_name, result.execution_id) == (Result.Type.SUCCESSFUL, NAME, got.execution)
    assert seen.ended_at is not None
    assert FinishedJobRegistry(queue=queue).get_job_ids() == [job.id]
    assert StartedJobRegistry(queue=queue).get_job_ids() == []
    assert seen.get_executions() == []
    assert not store.client.exists(
        f"rq:executions:{job.id}", f"rq:execution:{job.id}:{got.execution}", store.rq_keys.worker_executions(NAME)
    )
    assert store.client.hmget(store.rq_keys.worker(NAME), "successful_job_count", "total_working_time") == [
        b"1",
        b"0.25",
    ]


def test_results_are_kept_as_long_as_asked(store: Store, queue: Queue) -> None:
    for ttl, low, high in ((500, 490, 500), (-1, -1, -1)):
        job = queue.enqueue(tasks.square, 3)
        finish(store, claim(store, queue), ttl=ttl)
        for key in (job.key, store.rq_keys.results(job.id)):
            assert low <= store.client.ttl(key) <= high
    FinishedJobRegistry(queue=queue).cleanup()
    assert len(FinishedJobRegistry(queue=queue).get_job_ids()) == 2


def test_a_job_without_a_value_has_none(store: Store, queue: Queue) -> None:
    job = queue.enqueue(tasks.square, 3)
    assert store.jobs.finish(claim(store, queue), result=None, result_ttl=10, worked=0.0) == "ok"
    assert Job.fetch(job.id, connection=store.client).return_value() is None


def test_a_job_with_dependents_is_left_to_rq(store: Store, queue: Queue) -> None:
    job = queue.enqueue(tasks.square, 3)
    queue.enqueue(tasks.square, 4, depends_on=job)
    got = claim(store, queue)
    assert finish(store, got) == "complex"
    assert job.get_status() is JobStatus.STARTED
    assert store.jobs.holds(got)


@pytest.mark.parametrize("options", [{"on_success": Callback(tasks.square)}, {"repeat": None}])
def test_only_jobs_that_need_nothing_of_rq_are_plain(store: Store, queue: Queue, options: dict[str, object]) -> None:
    queue.enqueue(tasks.square, 3, **options)
    assert claim(store, queue).is_plain is (options == {"repeat": None})


def test_whoever_lost_a_job_changes_nothing_of_it(store: Store, queue: Queue) -> None:
    job = queue.enqueue(tasks.square, 3)
    old = claim(store, queue, worker="old")
    assert store.jobs.put_back(old.job_id, old.execution, old.queue, "old") == "ok"
    new = claim(store, queue, worker="new")
    assert finish(store, old, 1) == "fenced"
    assert store.jobs.fail(old, text="late", ttl=10) == "fenced"
    assert not store.jobs.holds(old)
    assert job.get_status() is JobStatus.STARTED
    assert job.return_value() is None
    assert finish(store, new, 2) == "ok"
    assert job.return_value(refresh=True) == 2
    assert finish(store, old, 1) == "fenced"
    assert [result.return_value for result in job.results()] == [2]


@pytest.mark.parametrize("way", ["cancel", "delete"])
def test_a_running_job_that_its_user_took_away_is_neither_finished_nor_put_back(
    store: Store, queue: Queue, way: str
) -> None:
    job = queue.enqueue(tasks.square, 3)
    got = claim(store, queue)
    getattr(job, way)()
    store.jobs.put_back(got.job_id, got.execution, got.queue, NAME)
    assert len(queue) == 0
    assert store.jobs.finish(got, result=None, result_ttl=10, worked=0.0) != "complex"
    assert store.jobs.held_by(NAME) == []
    if way == "delete":
        assert not store.client.exists(job.key)
    else:
        assert job.get_status() is JobStatus.CANCELED


# -- the bad end, and the way back --------------------------------------------------------------------------


def test_a_failed_operation_is_failed_for_rq_and_nothing_of_it_is_called(store: Store, queue: Queue) -> None:
    job = queue.enqueue(tasks.square, 3, on_failure=Callback(tasks.square))
    got = claim(store, queue)
    assert store.jobs.fail(got, text="no such host é", ttl=100) == "ok"
    seen = Job.fetch(job.id, connection=store.client)
    assert seen.get_status() is JobStatus.FAILED
    result = seen.latest_result()
    assert result is not None
    assert (result.type, result.exc_string) == (Result.Type.FAILED, "no such host é")
    assert FailedJobRegistry(queue=queue).get_job_ids() == [job.id]
    assert store.jobs.held_by(NAME) == []
    assert store.client.hget(store.rq_keys.worker(NAME), "failed_job_count") == b"1"
    assert store.jobs.tallies([queue.name]) == {queue.name: {"queued": 0, "started": 0, "finished": 0, "failed": 1}}


def test_jobs_go_back_to_the_head_of_their_queue(store: Store, queue: Queue) -> None:
    ids = [queue.enqueue(tasks.square, n).id for n in range(3)]
    got = [claim(store, queue) for _ in range(2)]
    for one in reversed(got):
        assert store.jobs.put_back(one.job_id, one.execution, one.queue, NAME) == "ok"
    assert queue.job_ids == ids
    first = Job.fetch(ids[0], connection=store.client)
    assert (first.get_status(), first.started_at, first.worker_name) == (JobStatus.QUEUED, None, None)
    assert StartedJobRegistry(queue=queue).get_job_ids() == []
    assert store.jobs.held_by(NAME) == []


def test_a_job_that_comes_back_from_lost_hosts_too_often_is_left_booked(store: Store, queue: Queue) -> None:
    job = queue.enqueue(tasks.square, 3)
    outcomes = []
    for _ in range(3):
        got = claim(store, queue)
        outcomes.append(store.jobs.put_back(job.id, got.execution, queue.name, NAME, most_deliveries=3))
    assert outcomes == ["ok", "ok", "exhausted"]
    assert store.jobs.holds(got)
    assert store.jobs.put_back(job.id, got.execution, queue.name, NAME) == "ok"


# -- sent twice ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("twice")
def test_a_claim_that_is_sent_twice_takes_one_job(store: Store, queue: Queue) -> None:
    ids = [queue.enqueue(tasks.square, n).id for n in range(4)]
    assert [claim(store, queue).job_id for _ in range(2)] == ids[:2]
    assert queue.job_ids == ids[2:]
    assert len(store.jobs.held_by(NAME)) == 2


@pytest.mark.usefixtures("twice")
def test_ends_that_are_sent_twice_are_booked_once(store: Store, queue: Queue) -> None:
    made = [queue.enqueue(tasks.square, n) for n in range(3)]
    good, bad, back = (claim(store, queue) for _ in range(3))
    assert finish(store, good) == "ok"
    assert store.jobs.fail(bad, text="x", ttl=10) == "ok"
    assert store.jobs.put_back(back.job_id, back.execution, back.queue, NAME, most_deliveries=3) == "ok"
    assert [len(made[n].results()) for n in range(2)] == [1, 1]
    assert queue.job_ids == [made[2].id]
    assert store.client.hget(made[2].key, "gs_deliveries") == b"1"
    assert store.client.hmget(store.rq_keys.worker(NAME), "successful_job_count", "failed_job_count") == [b"1", b"1"]


def test_what_rq_has_forgotten_leaves_its_registries_and_the_rest_stays(store: Store, queue: Queue) -> None:
    ends, fails = store.rq_keys.finished(queue.name), store.rq_keys.failed(queue.name)
    now = store.time()
    for key in (ends, fails):
        store.client.zadd(key, {"old": now - 1, "new": now + 60, "for ever": "inf"})
    store.jobs.trim([queue.name], now)
    assert [set(store.client.zrange(key, 0, -1)) for key in (ends, fails)] == [{b"new", b"for ever"}] * 2


# -- RQ's lists of workers ----------------------------------------------------------------------------------


def test_workers_are_registered_for_rq_and_those_that_it_lost_are_named(store: Store, queue: Queue) -> None:
    fields = {"birth": rq_time(), "pid": 1, "hostname": "h", "state": "idle"}
    store.jobs.register_workers({"a": fields, "b": fields}, [queue.name])
    assert store.client.scard(store.rq_keys.queue_workers(queue.name)) == 2
    store.client.delete(store.rq_keys.worker("b"))
    assert store.jobs.beat_workers({"a": None, "b": None}) == ["b"]
    store.jobs.unregister_workers(["a", "b"], [queue.name])
    assert not store.client.exists(store.rq_keys.workers, store.rq_keys.queue_workers(queue.name))
    assert 0 < store.client.ttl(store.rq_keys.worker("a")) <= 60


def test_an_endless_job_is_kept_from_looking_abandoned(store: Store, queue: Queue) -> None:
    queue.enqueue(tasks.square, 3, job_timeout=-1)
    got = claim(store, queue)
    key, member = store.rq_keys.started(queue.name), f"{got.job_id}:{got.execution}"
    store.client.zadd(key, {member: 1.0})
    store.jobs.beat_workers({NAME: (got.job_id, got.execution, queue.name)})
    assert store.client.zscore(key, member) > store.time() + 3000
    store.client.zrem(key, member)
    store.jobs.beat_workers({NAME: (got.job_id, got.execution, queue.name)})
    assert store.client.zscore(key, member) is None
