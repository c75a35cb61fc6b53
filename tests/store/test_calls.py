"""Calls of executors in Redis: enqueued once, taken back, answered in batches; garbage in their keys."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rq import Queue
from rq.job import Job, JobStatus

from gutscore_rs.calls import seal_call, seal_value
from gutscore_rs.errors import StoreError
from gutscore_rs.store import CallRecord, Store
from gutscore_rs.store.claims import End
from gutscore_rs.store.line import Line

KEY = b"k" * 32


@pytest.fixture
def line(store: Store) -> Iterator[Line]:
    made = store.calls.open_line()
    yield made
    made.close()


def queue_of(store: Store) -> Queue:
    return Queue(f"{store.case}:tasks", connection=store.client)


def submit(store: Store, line: Line, *job_ids: str, number: int = 1, **options: object) -> int:
    calls = [
        CallRecord(job_id, seal_call(KEY, job_id, (len, ([],), {}), largest=10**6), **options) for job_id in job_ids
    ]
    return store.calls.submission("e", number, queue_of(store).name, calls).finish(line)


def test_calls_are_rq_jobs_in_their_order(store: Store, line: Line) -> None:
    assert submit(store, line, "x-1", "x-2", timeout=7, retries=2, time_request=60, description="builtins.len") == 2
    assert queue_of(store).job_ids == ["x-1", "x-2"]
    job = Job.fetch("x-1", connection=store.client)
    assert (job.get_status(), job.timeout, job.retries_left, job.description) == (
        JobStatus.QUEUED,
        7,
        2,
        "builtins.len",
    )
    assert job.func_name == "gutscore_rs.calls.run"
    assert store.client.hget(job.key, "gs_time") == b"60"


def test_a_batch_that_is_sent_again_changes_nothing(store: Store, line: Line) -> None:
    assert submit(store, line, "x-1", number=5) == 1
    store.client.delete("rq:job:x-1", queue_of(store).key)
    assert submit(store, line, "x-1", number=5) == 0
    assert submit(store, line, "x-0", number=4) == 0
    assert queue_of(store).job_ids == []
    assert submit(store, line, "x-2", number=6) == 1


def test_what_waits_is_taken_back_and_what_runs_is_not(store: Store, line: Line) -> None:
    submit(store, line, "x-1", "x-2", "x-3")
    claim = store.jobs.claim([queue_of(store).name], "w")
    assert claim is not None
    assert store.calls.cancel(queue_of(store).name, ["x-1", "x-2", "x-9"]) == [False, True, False]
    assert queue_of(store).job_ids == ["x-3"]
    assert 0 < store.client.ttl("rq:job:x-2") <= 15


def test_in_a_long_queue_what_is_taken_back_leaves_its_id_to_be_passed_over(
    store: Store, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gutscore_rs.store.calls.SHORT_QUEUE", 1)
    submit(store, line, "x-1", "x-2")
    assert store.calls.cancel(queue_of(store).name, ["x-1"]) == [True]
    assert queue_of(store).job_ids == ["x-1", "x-2"]
    claim = store.jobs.claim([queue_of(store).name], "w")
    assert claim is not None
    assert claim.job_id == "x-2"


def end(store: Store, job_id: str, worker: str = "w") -> End:
    claims = store.jobs.exchange([queue_of(store).name], worker, most=1).claims
    assert [claim.job_id for claim in claims] == [job_id]
    (claim,) = claims
    result = seal_value(KEY, job_id, 0, largest=10**6)
    return End(claim.queue, job_id, claim.execution, 0, 1.0, 2.0, result, claim.reply)


def test_results_come_in_one_entry_and_nothing_of_their_jobs_stays(store: Store, line: Line) -> None:
    submit(store, line, "x-1", "x-2")
    ends = [end(store, "x-1"), end(store, "x-2")]
    got = store.jobs.exchange([queue_of(store).name], "w", ends, most=0)
    assert got.outcomes == ["ok", "ok"]
    assert store.client.xlen(store.keys.replies("e")) == 1
    replies = store.calls.replies("e")
    replies.ask(0.1)
    assert set(replies.take()) == {"x-1", "x-2"}
    assert [key for key in store.client.keys("rq:*") if b"x-" in key] == []
    replies.ask(0.01)
    assert replies.take() == {}
    # What was read is dropped with the next question.
    assert store.client.xlen(store.keys.replies("e")) == 0
    replies.close()
    again = store.jobs.exchange([queue_of(store).name], "w", ends, most=0)
    assert again.outcomes == ["ok", "ok"]
    assert store.client.xlen(store.keys.replies("e")) == 0


def test_whoever_awaits_a_result_is_told_to_look_at_a_job_that_ended_otherwise(store: Store, line: Line) -> None:
    submit(store, line, "x-1")
    claim = store.jobs.claim([queue_of(store).name], "w")
    assert claim is not None
    store.jobs.fail(claim, text="it broke", ttl=100)
    store.jobs.notify("x-1")
    store.jobs.notify("of-nobody")
    replies = store.calls.replies("e")
    replies.ask(0.1)
    assert replies.take() == {"x-1": b"?"}
    replies.close()
    states = store.calls.states(["x-1", "x-9"])
    assert (states["x-1"].status, states["x-1"].text) == ("failed", "it broke")
    assert (states["x-9"].status, states["x-9"].text) == ("", "")


def test_an_executor_that_ended_leaves_nothing(store: Store, line: Line) -> None:
    submit(store, line, "x-1")
    store.calls.nudge("e")
    store.calls.forget("e")
    assert [key for key in store.client.keys("*") if b":executor:" in key] == []


def test_garbage_in_their_keys_is_an_error_of_the_store(store: Store, line: Line) -> None:
    store.client.rpush(store.keys.executor("e"), "garbage")
    with pytest.raises(StoreError):
        submit(store, line, "x-1")
    store.client.set(store.keys.replies("e"), "garbage")
    replies = store.calls.replies("e")
    replies.ask(0.1)
    with pytest.raises(StoreError):
        replies.take()
    replies.close()
    store.client.hset("rq:job:x-2", "status", b"\xff")
    store.client.xadd("rq:results:x-2", {"exc_string": b"\xff\xff"})
    assert store.calls.states(["x-2"])["x-2"].text == ""
