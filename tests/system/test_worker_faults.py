"""What happens when a worker is killed, stopped, hung, or never comes to life."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from rq import Callback
from rq.job import Job, JobStatus, Retry
from support import jobs
from support.cases import LiveCase
from support.processes import read_pids, survivors
from support.waiting import holds_for, wait_until

from gutscore_rs.store.records import State

# A killed worker is out of the count, and its job is booked, within this (design, section 2).
AT_ONCE = 1.0


def ended(job: Job) -> bool:
    return job.get_status() in (JobStatus.FINISHED, JobStatus.FAILED)


def failure_of(job: Job) -> str:
    result = job.latest_result()
    assert result is not None
    return str(result.exc_string)


def begun(marks: Path) -> int:
    """The pid of the worker that has begun the job which writes its marks there."""
    wait_until(lambda: marks.exists() and marks.read_text().endswith("\n"), 10, what="the job has begun")
    return int(marks.read_text().split()[-1])


def test_a_killed_idle_worker_leaves_the_count_at_once_and_is_replaced(case: LiveCase) -> None:
    case.request(nworkers=2)
    victim, other = case.pids()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in case.pids(), AT_ONCE, what="the dead worker is not counted")
    case.wait_active(0, 2, timeout=5)
    assert other in case.pids()
    (reason,) = case.reasons()
    assert f"pid {victim}" in reason
    assert "SIGKILL" in reason
    assert case.state_of() is State.ACTIVE


def test_a_job_whose_worker_is_killed_fails_at_once_with_worker_pid_and_signal(case: LiveCase, tmp_path: Path) -> None:
    case.request(nworkers=1)
    job = case.queue().enqueue(jobs.sleep, 60, str(tmp_path / "marks"))
    victim = begun(tmp_path / "marks")
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: job.get_status() is JobStatus.FAILED, AT_ONCE, what="the job failed")
    assert "WorkerLostError: worker 0" in failure_of(job)
    assert f"pid {victim}" in failure_of(job)
    assert "SIGKILL" in failure_of(job)
    case.wait_active(0, 1)
    following = case.queue().enqueue(jobs.square, 3)
    wait_until(lambda: following.return_value() == 9, what="the replacement works")


def test_a_job_with_retries_runs_again_elsewhere_when_its_worker_is_killed(case: LiveCase, tmp_path: Path) -> None:
    case.request(nworkers=2)
    marks = tmp_path / "marks"
    job = case.queue().enqueue(jobs.sleep, 1.0, str(marks), retry=Retry(max=1))
    victim = begun(marks)
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: job.get_status() is JobStatus.FINISHED, 10, what="the retry finished")
    lines = [line.split() for line in marks.read_text().splitlines()]
    assert [word for word, _ in lines] == ["begin", "begin", "end"]
    assert lines[0][1] == str(victim) != lines[1][1]


def test_a_delayed_retry_runs_after_its_interval_without_any_scheduler(case: LiveCase) -> None:
    case.request(nworkers=1)
    job = case.queue().enqueue(jobs.kill_myself, retry=Retry(max=1, interval=1))
    wait_until(lambda: job.get_status() is JobStatus.SCHEDULED, 5, what="the retry is scheduled")
    wait_until(lambda: job.get_status() is JobStatus.FAILED, 10, what="the retry was run too")
    assert len(case.reasons()) == 2


@pytest.mark.parametrize("signum", [signal.SIGSEGV, signal.SIGABRT])
def test_a_crashing_job_fails_with_the_name_of_the_signal(case: LiveCase, signum: signal.Signals) -> None:
    case.request(nworkers=1)
    job = case.queue().enqueue(jobs.kill_myself, int(signum))
    wait_until(lambda: job.get_status() is JobStatus.FAILED, 5, what="the job failed")
    assert signum.name in failure_of(job)
    case.wait_active(0, 1)


def test_a_job_that_ends_its_process_fails_and_one_that_exits_leaves_the_worker_alive(case: LiveCase) -> None:
    case.request(nworkers=1)
    hard = case.queue().enqueue(jobs.end_process, 3)
    wait_until(lambda: hard.get_status() is JobStatus.FAILED, 5, what="the job with os._exit failed")
    assert "exited with code 3" in failure_of(hard)
    case.wait_active(0, 1)
    (worker,) = case.pids()
    soft = case.queue().enqueue(jobs.leave, 4)
    wait_until(lambda: soft.get_status() is JobStatus.FAILED, 5, what="the job with sys.exit failed")
    assert "SystemExit" in failure_of(soft)
    assert case.pids() == [worker]


def test_jobs_that_rq_cannot_read_fail_and_harm_no_worker(case: LiveCase) -> None:
    case.request(nworkers=1)
    before = case.pids()
    unreadable = case.queue().enqueue(jobs.square, 2, job_id="unreadable", at_front=True)
    broken = {"data": b"\x80\x04garbage", "meta": b"garbage"}
    for number in range(8):
        job = Job.create(
            jobs.square, (number,), id=f"broken-{number}", connection=case.store.client, origin=case.queue().name
        )
        job.save()
        # Some cannot even be told how long they may run.
        broken |= {"timeout": b"soon"} if number % 2 else {}
        case.store.client.hset(job.key, mapping=broken | {"status": "queued"})
        case.store.client.rpush(case.queue().key, job.id)
    wait_until(lambda: case.store.client.llen(case.queue().key) == 0, 10, what="the queue is empty")
    wait_until(lambda: all(ended(Job(f"broken-{n}", case.store.client)) for n in range(8)), what="all have failed")
    assert unreadable.return_value() == 4
    assert case.pids() == before


def test_a_worker_that_hangs_beyond_its_timeout_where_no_signal_helps_is_killed(case: LiveCase) -> None:
    case.request(nworkers=1, timeout_grace=0.5)
    (victim,) = case.pids()
    hung = case.queue().enqueue(jobs.hang_in_c, 60, job_timeout=1)
    wait_until(lambda: hung.get_status() is JobStatus.FAILED, 10, what="the hanging job failed")
    assert f"pid {victim}" in failure_of(hung)
    assert "hung beyond its job's timeout" in failure_of(hung)
    case.wait_active(0, 1)


def test_a_job_beyond_its_timeout_fails_and_its_worker_lives(case: LiveCase) -> None:
    case.request(nworkers=1)
    before = case.pids()
    slow = case.queue().enqueue(jobs.sleep, 60, job_timeout=1)
    wait_until(lambda: slow.get_status() is JobStatus.FAILED, 10, what="the slow job failed")
    assert "JobTimeoutException" in failure_of(slow)
    assert case.pids() == before


def test_workers_that_die_at_their_start_make_the_set_fail_with_a_useful_error(case: LiveCase) -> None:
    # The log of worker 0 cannot be written: it ends before it is of any use.
    (case.folder.logs / "set-0" / "g1" / "worker-0.log").mkdir(parents=True)
    case.request(nworkers=2, max_restarts=2, wait=False)
    wait_until(lambda: case.state_of() is State.FAILED, 20, what="the set failed")
    assert "workers die as soon as they start: worker 0" in case.error_of()
    assert "exited with code 70" in case.error_of()
    assert "gutscore-rs logs test" in case.error_of()
    assert case.store.workers.count(0) == 0
    assert "IsADirectoryError" in (case.folder.logs / "set-0" / "g1" / "launcher.log").read_text()


def test_a_stopped_worker_is_listed_as_stopped_and_as_alive_once_it_goes_on(case: LiveCase) -> None:
    case.request(nworkers=2)
    victim = case.pids()[0]

    def state() -> str:
        return next(worker.state for worker in case.store.workers.alive([0]) if worker.pid == victim)

    os.kill(victim, signal.SIGSTOP)
    wait_until(lambda: state() == "stopped", 5, what="it is listed as stopped")
    # It takes no job meanwhile; the others do.
    done = [case.queue().enqueue(jobs.pid) for _ in range(5)]
    wait_until(lambda: all(map(ended, done)), 5, what="the other worker did all jobs")
    assert victim not in {job.return_value() for job in done}
    os.kill(victim, signal.SIGCONT)
    wait_until(lambda: state() == "alive", 5, what="it is listed as alive")
    assert case.reasons() == []


def test_offspring_of_tasks_survives_neither_their_worker_nor_the_release(case: LiveCase, tmp_path: Path) -> None:
    case.request(nworkers=2)
    first, second = tmp_path / "first", tmp_path / "second"
    worker = case.queue().enqueue(jobs.start_offspring, str(first))
    family = read_pids(first, 2)
    wait_until(lambda: ended(worker), 10, what="the task ended")
    holds_for(lambda: len(survivors(family)) == 2, 0.2, what="the offspring lives as long as its worker")
    os.kill(worker.return_value(), signal.SIGKILL)
    wait_until(lambda: not survivors(family), 2, what="nothing of the killed worker's tasks lives")
    case.wait_active(0, 2)
    case.queue().enqueue(jobs.start_offspring, str(second), own_session=False)
    family = read_pids(second, 2)
    case.operations.release(0, timeout=20)
    assert survivors(family) == []


def test_the_failure_callback_of_a_job_whose_worker_was_killed_is_called(case: LiveCase, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    case.request(nworkers=1, env={"GUTSCORE_TEST_PROOF": str(proof)})
    job = case.queue().enqueue(jobs.kill_myself, on_failure=Callback("support.jobs.leave_proof"))
    wait_until(lambda: job.get_status() is JobStatus.FAILED, 5, what="the job failed")
    wait_until(proof.exists, 5, what="its callback was called")
