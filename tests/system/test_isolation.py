"""A process of its own for each job: what goes wrong there costs that job only, and is told as what it is."""

from __future__ import annotations

import os
import signal

from rq.job import Job, JobStatus, Retry
from support import calls, jobs
from support import rq_workers as tasks
from support.calls import executor_on
from support.cases import LiveCase
from support.waiting import wait_until

from gutscore_rs.errors import TaskTimeoutError, WorkerLostError


def ended(case: LiveCase, *some: Job) -> None:
    over = (JobStatus.FINISHED, JobStatus.FAILED)
    wait_until(lambda: all(job.get_status() in over for job in some), 30, what="the jobs ended")


def reason(job: Job) -> str:
    result = job.latest_result()
    assert result is not None
    return result.exc_string or ""


def test_each_job_has_a_process_of_its_own_and_its_worker_stays(case: LiveCase) -> None:
    case.request(nworkers=1, isolation="process")
    workers = case.pids()
    made = [case.queue().enqueue(jobs.pid) for _ in range(3)]
    ended(case, *made)
    pids = [job.return_value() for job in made]
    assert len(set(pids)) == 3
    assert not set(pids) & set(workers)
    assert case.pids() == workers


def test_a_segfault_costs_its_job_and_no_worker(case: LiveCase) -> None:
    case.request(nworkers=1, isolation="process")
    workers = case.pids()
    bad, good = case.queue().enqueue(jobs.kill_myself, signal.SIGSEGV), case.queue().enqueue(jobs.square, 3)
    again = case.queue().enqueue(jobs.kill_myself, signal.SIGKILL, retry=Retry(max=1))
    ended(case, bad, good, again)
    assert "killed by SIGSEGV" in reason(bad)
    assert "MiB" in reason(bad)
    assert "perhaps out of memory" in reason(again)
    assert good.return_value() == 9
    assert case.pids() == workers
    assert case.reasons() == []


def test_what_jobs_do_works_as_without(case: LiveCase) -> None:
    case.request(nworkers=1, isolation="process")
    queue = case.queue()
    known, failed, silent = (
        queue.enqueue(tasks.who_am_i, "seen"),
        queue.enqueue(jobs.fail),
        queue.enqueue(tasks.unstorable),
    )
    slow = queue.enqueue(jobs.sleep, 30, job_timeout=1)
    ended(case, known, failed, silent, slow)
    assert known.return_value()[1] == {"mark": "seen"}
    assert "on purpose" in reason(failed)
    assert "in fail" in reason(failed)
    assert silent.get_status() is JobStatus.FINISHED
    assert "JobTimeoutException" in reason(slow)


def test_a_job_that_hears_no_timeout_is_killed_and_its_worker_is_not(case: LiveCase) -> None:
    case.request(nworkers=1, isolation="process", timeout_grace=2)
    workers = case.pids()
    job = case.queue().enqueue(jobs.hang_in_c, 60.0, job_timeout=1)
    ended(case, job)
    assert "killed by SIGKILL" in reason(job)
    assert case.pids() == workers


def test_the_executor_tells_the_same(case: LiveCase) -> None:
    case.request(nworkers=1, isolation="process")
    with executor_on(case) as executor:
        assert executor.submit(os.getpid).result(20) not in case.pids()
        lost = executor.submit(jobs.kill_myself, signal.SIGSEGV).exception(20)
        assert isinstance(lost, WorkerLostError)
        assert "SIGSEGV" in str(lost)
        raised = executor.submit(calls.raise_chained).exception(20)
        assert isinstance(raised, ValueError)
        assert "KeyError: 'inner'" in str(raised.__cause__)
        assert isinstance(executor.options(timeout=1).submit(jobs.sleep, 60.0).exception(20), TaskTimeoutError)


def test_a_release_ends_the_job_and_its_process(case: LiveCase) -> None:
    case.request(nworkers=1, isolation="process")
    job = case.queue().enqueue(jobs.sleep, 60.0)
    wait_until(lambda: job.get_status() is JobStatus.STARTED, what="it runs")
    case.operations.release(0)
    assert job.get_status() is JobStatus.QUEUED
