"""Jobs of stock clients: their ends, their results, their records."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from rq import Callback, Repeat
from rq.job import Dependency, Job, JobStatus
from rq.results import Result
from rq.serializers import JSONSerializer
from support import jobs
from support import rq_workers as tasks
from support.rq_workers import RqSite


def test_a_job_finishes_with_its_value_and_its_times(site: RqSite) -> None:
    before = datetime.now(UTC)
    job = site.queue().enqueue(jobs.square, 3, result_ttl=100)
    site.burst()
    seen = site.fetch(job)
    assert (seen.get_status(), seen.return_value(), seen.origin) == (JobStatus.FINISHED, 9, "q")
    assert seen.started_at is not None
    assert seen.ended_at is not None
    assert before <= seen.started_at <= seen.ended_at <= datetime.now(UTC)
    result = seen.latest_result()
    assert result is not None
    assert (result.type, result.return_value, result.worker_name) == (Result.Type.SUCCESSFUL, 9, seen.worker_name)
    queue = site.queue()
    assert queue.finished_job_registry.get_job_ids() == [job.id]
    assert (len(queue), queue.started_job_registry.count, queue.failed_job_registry.count) == (0, 0, 0)
    assert 90 < site.connection.ttl(job.key) <= 100
    assert 90 < site.connection.ttl(f"rq:results:{job.id}") <= 100
    assert seen.get_executions() == []


@pytest.mark.parametrize(("ttl", "there"), [(0, False), (-1, True), (50, True)])
def test_a_result_is_kept_as_long_as_asked(site: RqSite, ttl: int, *, there: bool) -> None:
    job = site.queue().enqueue(jobs.square, 3, result_ttl=ttl)
    site.burst()
    assert Job.exists(job.id, connection=site.connection) is there
    if ttl == -1:
        assert site.connection.ttl(job.key) == -1


def test_jobs_run_in_their_order_and_those_at_the_front_first(site: RqSite) -> None:
    queue = site.queue()
    order = [queue.enqueue(tasks.count, "n"), queue.enqueue(tasks.count, "n")]
    order.insert(0, queue.enqueue(tasks.count, "n", at_front=True))
    site.burst()
    assert [site.fetch(job).return_value() for job in order] == [1, 2, 3]


def test_queues_are_served_in_the_order_they_are_named(site: RqSite) -> None:
    low, high = site.queue("low").enqueue(tasks.count, "n"), site.queue("high").enqueue(tasks.count, "n")
    site.burst("high", "low")
    assert (site.fetch(high).return_value(), site.fetch(low).return_value()) == (1, 2)


@pytest.mark.parametrize("strategy", ["round_robin", "random"])
def test_other_orders_serve_every_queue(site: RqSite, strategy: str) -> None:
    made = [site.queue(name).enqueue(jobs.square, n) for name in ("a", "b") for n in range(3)]
    site.burst("a", "b", dequeue_strategy=strategy)
    assert [site.fetch(job).get_status() for job in made] == [JobStatus.FINISHED] * 6


def test_round_robin_takes_turns(site: RqSite) -> None:
    made = {name: [site.queue(name).enqueue(tasks.count, "n") for _ in range(2)] for name in ("a", "b")}
    site.burst("a", "b", dequeue_strategy="round_robin")
    assert [site.fetch(job).return_value() for job in made["a"] + made["b"]] == [1, 3, 2, 4]


def test_calls_of_every_kind(site: RqSite) -> None:
    queue = site.queue()
    made = {
        queue.enqueue(tasks.Adder(3).add, 4): 7,
        queue.enqueue(tasks.later, 4): 5,
        queue.enqueue("support.jobs.square", 5): 25,
        queue.enqueue(jobs.square, kwargs={"x": 6}): 36,
        queue.enqueue(len, [1, 2]): 2,
        queue.enqueue(print, "nothing"): None,
    }
    site.burst()
    for job, value in made.items():
        assert site.fetch(job).get_status() is JobStatus.FINISHED
        assert site.fetch(job).return_value() == value


def test_a_job_knows_itself_and_writes_into_its_meta(site: RqSite) -> None:
    job = site.queue().enqueue(tasks.who_am_i, "seen", meta={"given": 1})
    site.burst()
    assert site.fetch(job).return_value() == (job.id, {"given": 1, "mark": "seen"})
    assert site.fetch(job).meta == {"given": 1, "mark": "seen"}


def test_dependents_run_after_what_they_wait_for(site: RqSite) -> None:
    queue = site.queue()
    first, second = queue.enqueue(tasks.count, "n"), queue.enqueue(tasks.count, "n")
    last = queue.enqueue(tasks.count, "n", depends_on=[first, second])
    then = queue.enqueue(tasks.count, "n", depends_on=last)
    assert last.get_status() is JobStatus.DEFERRED
    site.burst()
    assert (site.fetch(last).return_value(), site.fetch(then).return_value()) == (3, 4)
    assert queue.deferred_job_registry.count == 0


def test_dependents_of_a_failure_wait_unless_they_allow_it(site: RqSite) -> None:
    queue = site.queue()
    bad = queue.enqueue(jobs.fail)
    never = queue.enqueue(jobs.square, 1, depends_on=bad)
    still = queue.enqueue(jobs.square, 2, depends_on=Dependency(bad, allow_failure=True))
    site.burst()
    assert site.fetch(never).get_status() is JobStatus.DEFERRED
    assert site.fetch(still).return_value() == 4


def test_callbacks_are_called(site: RqSite) -> None:
    queue = site.queue()
    good = queue.enqueue(jobs.square, 2, on_success=Callback(tasks.note))
    bad = queue.enqueue(jobs.fail, on_failure=Callback(tasks.note))
    site.burst()
    noted = [site.connection.lrange(f"noted:{job.id}", 0, -1) for job in (good, bad)]
    assert noted == [[b"1"], [b"3"]]


def test_a_job_repeats(site: RqSite) -> None:
    job = site.queue().enqueue(tasks.count, "n", repeat=Repeat(times=2))
    site.burst()
    assert site.connection.get("n") == b"3"
    assert site.fetch(job).get_status() is JobStatus.FINISHED


def test_a_returned_retry_runs_it_again(site: RqSite) -> None:
    job = site.queue().enqueue(tasks.ask_again, "n", 3)
    site.burst()
    assert (site.fetch(job).return_value(), site.connection.get("n")) == (3, b"3")


def test_another_serializer(site: RqSite) -> None:
    queue = site.queue(serializer=JSONSerializer)
    job = queue.enqueue(jobs.square, 7)
    site.burst(serializer="rq.serializers.JSONSerializer")
    seen = Job.fetch(job.id, connection=site.connection, serializer=JSONSerializer)
    assert (seen.get_status(), seen.return_value()) == (JobStatus.FINISHED, 49)


def test_another_class_of_jobs(site: RqSite) -> None:
    job = site.queue().enqueue(jobs.square, 7)
    site.burst(job_class="support.rq_workers.MarkedJob")
    assert site.fetch(job).return_value() == ("marked", 49)


def test_a_value_that_cannot_be_stored_does_not_fail_the_job(site: RqSite) -> None:
    job = site.queue().enqueue(tasks.unstorable)
    site.burst()
    assert site.fetch(job).get_status() is JobStatus.FINISHED


def test_what_was_cancelled_or_deleted_does_not_run(site: RqSite) -> None:
    queue = site.queue()
    gone, cancelled, stays = (queue.enqueue(tasks.count, "n") for _ in range(3))
    gone.delete()
    cancelled.cancel()
    site.burst()
    assert (site.connection.get("n"), site.fetch(stays).return_value()) == (b"1", 1)


def test_a_unique_id_is_kept(site: RqSite) -> None:
    job = site.queue().enqueue(jobs.square, 3, job_id="my-own_id")
    site.burst()
    assert (job.id, site.fetch(job).return_value()) == ("my-own_id", 9)
