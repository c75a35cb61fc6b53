"""What happens when a launcher is killed, stopped, fenced, or out of time."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from rq.job import JobStatus, Retry
from rq.registry import FinishedJobRegistry, StartedJobRegistry
from support import jobs
from support.cases import LiveCase
from support.processes import lives, read_pids, survivors
from support.waiting import holds_for, wait_until

from gutscore_rs.identity import ProcessIdentity
from gutscore_rs.processes import send_signal
from gutscore_rs.store.records import State

# A launcher that died on a host with a provisioner is seen by it; without one, its leases end (design, section 2).
SEEN_BY_PROVISIONER = 3.0
LEASES_ENDED = 15.0


def kill(launcher: ProcessIdentity) -> None:
    assert send_signal(launcher, signal.SIGKILL)


def log_of(case: LiveCase, pattern: str) -> str:
    return "".join(file.read_text() for file in (case.folder.logs / "set-0").glob(f"*/{pattern}"))


def words(file: Path) -> list[str]:
    return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []


def test_a_killed_launcher_takes_its_workers_along_and_is_replaced(case: LiveCase) -> None:
    first = case.request(nworkers=2)
    launcher, workers = case.launcher(), case.pids()
    kill(launcher)
    wait_until(lambda: not survivors(workers), 2, what="its workers ended by themselves")
    wait_until(lambda: not set(case.pids()) & set(workers), SEEN_BY_PROVISIONER, what="they are not counted")
    case.wait_active(0, 2)
    again = case.store.sets.get(0)
    assert again is not None
    assert (again.generation, again.launches, again.deadline) == (first.generation, 2, first.deadline)
    assert all(f"its launcher (pid {launcher.pid} on test-host) died" in reason for reason in case.reasons())
    assert len(case.reasons()) == 2


def test_jobs_and_offspring_of_a_killed_launcher_run_again_and_are_dead(case: LiveCase, tmp_path: Path) -> None:
    case.request(nworkers=3)
    marks, family_file = tmp_path / "marks", tmp_path / "family"
    slow = [case.queue().enqueue(jobs.sleep, 1.0, str(marks)) for _ in range(2)]
    case.queue().enqueue(jobs.start_offspring, str(family_file))
    family = read_pids(family_file, 2)
    wait_until(lambda: words(marks).count("begin") >= 2, what="the jobs have begun")
    waiting = [case.queue().enqueue(jobs.square, n) for n in range(10)]
    kill(case.launcher())
    wait_until(lambda: not survivors(family), SEEN_BY_PROVISIONER, what="nothing of its tasks lives")
    wait_until(
        lambda: all(job.get_status() is JobStatus.FINISHED for job in [*slow, *waiting]),
        20,
        what="all jobs finished after all",
    )
    assert words(marks).count("begin") == 4  # both once more: nobody knows how far they had come
    assert words(marks).count("end") == 2
    assert StartedJobRegistry(queue=case.queue()).get_job_ids(cleanup=False) == []


def test_a_launcher_stopped_past_its_lease_is_fenced_from_what_others_took(case: LiveCase, tmp_path: Path) -> None:
    case.request(0, nworkers=2)
    launcher, members = case.launcher(), {worker.member for worker in case.store.workers.alive([0])}
    marks, short = tmp_path / "marks", tmp_path / "short"
    job = case.queue().enqueue(jobs.sleep_less_again, 17.0, 0.1, str(marks))
    wait_until(lambda: words(marks) == ["begin"], what="the job has begun")
    send_signal(launcher, signal.SIGSTOP)
    wait_until(lambda: case.store.workers.count(0) == 0, LEASES_ENDED, what="its workers are not counted")
    late = [case.queue().enqueue(jobs.sleep, 0.0, str(short)) for _ in range(4)]
    wait_until(lambda: job.get_status() is JobStatus.QUEUED, LEASES_ENDED, what="its job went back")
    assert not short.exists(), "a worker claimed although its lease was over"
    assert all("its lease ended" in reason for reason in case.reasons())
    case.request(1, nworkers=1)
    other = case.pids(1)[0]
    wait_until(lambda: job.get_status() is JobStatus.STARTED, what="another set took the job")
    send_signal(launcher, signal.SIGCONT)
    wait_until(lambda: case.store.workers.count(0) == 2, 5, what="the launcher's workers are counted again")
    assert {worker.member for worker in case.store.workers.alive([0])} == members
    assert case.store.workers.counts([0, 1]) == {0: 2, 1: 1}
    wait_until(lambda: job.get_status() is JobStatus.FINISHED, 30, what="the job finished")
    wait_until(lambda: all(one.get_status() is JobStatus.FINISHED for one in late), what="the late jobs finished")
    wait_until(lambda: words(marks).count("end") == 2, what="its first run came to its end too")
    wait_until(
        lambda: "its outcome here is dropped" in log_of(case, "worker-*.log"), what="the first outcome is dropped"
    )
    assert FinishedJobRegistry(queue=case.queue()).get_job_ids().count(job.id) == 1
    assert len(job.results()) == 1
    registered = next(worker for worker in case.store.workers.registered(1, case.host) if worker.pid == other)
    assert job.results()[0].worker_name == registered.rq_name
    assert StartedJobRegistry(queue=case.queue()).get_job_ids(cleanup=False) == []


def test_the_deadline_puts_running_jobs_back_without_using_a_retry(case: LiveCase, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    job = case.queue().enqueue(jobs.sleep, 60, str(marks), retry=Retry(max=1))
    stubborn = case.queue().enqueue(jobs.swallow_everything, 60)
    case.request(nworkers=3, runtime=3)
    workers = case.pids()
    wait_until(lambda: case.state_of() is State.EXPIRED, 12, what="the set expired")
    assert case.store.workers.count(0) == 0
    assert survivors(workers) == []
    assert words(marks) == ["begin"]
    for one, retries in ((job, 1), (stubborn, None)):
        one.refresh()
        assert one.get_status() is JobStatus.QUEUED
        assert one.retries_left == retries
    assert sorted(case.queue().get_job_ids()) == sorted([job.id, stubborn.id])
    (reason,) = case.reasons()
    assert "did not stop in time and was killed" in reason
    assert StartedJobRegistry(queue=case.queue()).get_job_ids(cleanup=False) == []


def test_a_release_puts_running_jobs_back_and_ends_a_stopped_launcher(case: LiveCase, tmp_path: Path) -> None:
    case.request(0, nworkers=1)
    marks = tmp_path / "marks"
    job = case.queue().enqueue(jobs.sleep, 60, str(marks))
    wait_until(lambda: words(marks) == ["begin"], what="the job has begun")
    case.operations.release(0, timeout=20)
    assert job.get_status(refresh=True) is JobStatus.QUEUED
    assert case.queue().get_job_ids() == [job.id]
    case.queue().empty()
    case.request(1, nworkers=2)
    launcher, workers = case.launcher(1), case.pids(1)
    send_signal(launcher, signal.SIGSTOP)
    os.kill(workers[0], signal.SIGSTOP)
    case.operations.release(1, timeout=20)
    assert case.state_of(1) is State.RELEASED
    assert survivors([launcher.pid, *workers]) == []


def test_a_newer_launch_fences_the_old_launcher(case: LiveCase) -> None:
    record = case.request(nworkers=2)
    old, workers = case.launcher(), case.pids()
    changed = case.store.sets.transition(
        record, State.REQUESTED, "a test launches it again", check_version=False, expected=[State.ACTIVE], next_try_at=0
    )
    assert changed is not None
    wait_until(lambda: not lives(old.pid), 15, what="the old launcher ended")
    assert survivors(workers) == []
    case.wait_active(0, 2)
    assert case.launcher().pid != old.pid
    assert not set(case.pids()) & set(workers)
    holds_for(lambda: case.store.workers.count(0) == 2, 1.0, what="exactly one launcher's workers are counted")
    assert "a newer launch took the place" in log_of(case, "launcher.log")


def test_a_set_whose_launcher_keeps_dying_fails_at_last(case: LiveCase) -> None:
    case.request(nworkers=1)
    for launches in range(1, 6):
        record = wait_until(
            lambda n=launches: (r := case.store.sets.get(0)) and r.launches == n and r.state is State.ACTIVE and r,
            15,
            what=f"launch {launches}",
        )
        assert record.nworkers == 1
        kill(case.launcher())
    wait_until(lambda: case.state_of() is State.FAILED, 10, what="the set failed")
    assert "launched 5 times, not again" in case.error_of()
    assert "gutscore-rs logs test" in case.error_of()
    assert case.store.workers.count(0) == 0
