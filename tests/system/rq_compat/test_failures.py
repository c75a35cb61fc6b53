"""Jobs that fail: what is said of them, and whether they are tried again."""

from __future__ import annotations

from rq.job import Job, JobStatus, Retry
from rq.results import Result
from support import jobs
from support import rq_workers as tasks
from support.rq_workers import RqSite
from support.waiting import wait_until


def reason(site: RqSite, job: Job) -> str:
    result = site.fetch(job).latest_result()
    assert result is not None
    assert result.type is Result.Type.FAILED
    return result.exc_string or ""


def test_a_failure_tells_its_traceback_and_is_kept(site: RqSite) -> None:
    job = site.queue().enqueue(jobs.fail, failure_ttl=200)
    site.burst()
    assert site.fetch(job).get_status() is JobStatus.FAILED
    text = reason(site, job)
    assert "Traceback" in text
    assert "ValueError: on purpose" in text
    assert site.queue().failed_job_registry.get_job_ids() == [job.id]
    assert site.queue().started_job_registry.count == 0
    assert 190 < site.connection.ttl(job.key) <= 200


def test_what_cannot_be_imported_or_read_fails(site: RqSite) -> None:
    queue = site.queue()
    nowhere, garbled = queue.enqueue("no.such.module"), queue.enqueue(jobs.square, 3)
    site.connection.hset(garbled.key, "data", b"garbage")
    good = queue.enqueue(jobs.square, 2)
    site.burst()
    assert [site.connection.hget(job.key, "status") for job in (nowhere, garbled)] == [b"failed"] * 2
    assert site.fetch(good).return_value() == 4


def test_a_job_that_leaves_by_sys_exit_fails(site: RqSite) -> None:
    job, good = site.queue().enqueue(jobs.leave, 3), site.queue().enqueue(jobs.square, 2)
    site.burst()
    assert site.fetch(job).get_status() is JobStatus.FAILED
    assert site.fetch(good).return_value() == 4


def test_a_timeout_ends_the_job_and_says_so(site: RqSite) -> None:
    job, good = site.queue().enqueue(jobs.sleep, 30, job_timeout=1), site.queue().enqueue(jobs.square, 2)
    site.burst()
    assert "JobTimeoutException" in reason(site, job)
    assert site.fetch(good).return_value() == 4


def test_retries_without_a_pause_follow_at_once(site: RqSite) -> None:
    good = site.queue().enqueue(tasks.fail_until, "a", 3, retry=Retry(max=3))
    bad = site.queue().enqueue(tasks.fail_until, "b", 9, retry=Retry(max=2))
    site.burst()
    assert (site.fetch(good).return_value(), site.connection.get("b")) == (3, b"3")
    assert site.fetch(bad).get_status() is JobStatus.FAILED


def test_retries_with_a_pause_come_by_the_scheduler(site: RqSite) -> None:
    job = site.queue().enqueue(tasks.fail_until, "a", 2, retry=Retry(max=1, interval=1))
    with site.worker(with_scheduler=True):
        wait_until(lambda: site.fetch(job).get_status() is JobStatus.FINISHED, 20, what="the retry finished")
    assert site.queue().scheduled_job_registry.count == 0
