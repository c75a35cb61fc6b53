"""What happens when Redis is killed, stopped, emptied, or out of reach for a while."""

from __future__ import annotations

import signal
from pathlib import Path

from rq.job import Job, JobStatus, Retry
from rq.registry import FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry
from support import jobs
from support.cases import LiveCase
from support.processes import Stopwatch, survivors
from support.waiting import holds_for, wait_until

from gutscore_rs.identity import is_alive
from gutscore_rs.processes import send_signal
from gutscore_rs.store.records import State
from gutscore_rs.store.workers import Departure

# After an outage the next beat comes within this (beats are retried each half second).
FEW_BEATS = 6.0


def words(file: Path) -> list[str]:
    return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []


def departures(case: LiveCase) -> list[Departure]:
    return [
        Departure(worker.member, worker.host, worker.pid, "given up by hand")
        for worker in case.store.workers.registered(0, case.host)
    ]


def all_finished(case: LiveCase, done: list[Job]) -> None:
    """Every job ended well, once, and no trace of its execution is left."""
    wait_until(
        lambda: all(job.get_status() is JobStatus.FINISHED for job in done), 40, what="all jobs finished", interval=0.2
    )
    queue = case.queue()
    assert sorted(FinishedJobRegistry(queue=queue).get_job_ids()) == sorted(job.id for job in done)
    assert FailedJobRegistry(queue=queue).get_job_ids() == []
    assert StartedJobRegistry(queue=queue).get_job_ids(cleanup=False) == []
    assert queue.get_job_ids() == []
    assert list(case.store.client.scan_iter("rq:execution*")) == []
    assert all(len(job.results()) == 1 for job in done)


def test_a_server_that_crashes_under_load_costs_no_job_and_no_worker(case: LiveCase, tmp_path: Path) -> None:
    case.request(nworkers=3)
    workers, marks = case.pids(), tmp_path / "marks"
    slow = [case.queue().enqueue(jobs.sleep, 0.3, str(marks)) for _ in range(20)]
    done = [*slow, *(case.queue().enqueue(jobs.square, n) for n in range(200))]
    for _ in range(3):
        began = words(marks).count("begin")
        wait_until(lambda began=began: words(marks).count("begin") >= began + 2, what="jobs are running")
        case.server.restart()
    all_finished(case, done)
    assert words(marks).count("end") == len(slow)
    wait_until(lambda: case.pids() == workers, FEW_BEATS, what="the same workers are counted")
    assert case.reasons() == []
    assert case.state_of() is State.ACTIVE


def test_an_outage_across_the_end_of_jobs_loses_neither_results_nor_workers(case: LiveCase, tmp_path: Path) -> None:
    case.request(nworkers=4)
    workers, marks = case.pids(), tmp_path / "marks"
    kept = [case.queue().enqueue(jobs.sleep, 3.0, str(marks)) for _ in range(2)]
    bad = case.queue().enqueue(jobs.sleep_and_fail, 3.0, str(marks))
    again = case.queue().enqueue(jobs.sleep_and_fail, 3.0, str(marks), retry=Retry(max=1))
    wait_until(lambda: words(marks).count("begin") == 4, what="all jobs have begun")
    case.server.kill()
    outage = Stopwatch()
    wait_until(lambda: words(marks).count("end") == 4, what="the jobs came to their ends meanwhile")
    holds_for(lambda: len(survivors(workers)) == 4, 20.0 - outage.seconds, what="the workers live", interval=0.5)
    assert case.log_text("provisioner").count("WARNING") < 150, "an outage is logged in a loop"
    case.server.start()
    wait_until(lambda: case.pids() == workers, FEW_BEATS, what="the same workers are counted")
    wait_until(lambda: all(job.get_status() is JobStatus.FINISHED for job in kept), 10, what="results were kept")
    wait_until(lambda: bad.get_status() is JobStatus.FAILED, 10, what="the failure was kept")
    assert "on purpose" in str(bad.latest_result() and bad.latest_result().exc_string)
    wait_until(lambda: again.get_status() is JobStatus.FAILED, 15, what="the retry was run")
    assert words(marks).count("begin") == 5
    assert all(job.return_value() == "slept" and len(job.results()) == 1 for job in kept)
    assert StartedJobRegistry(queue=case.queue()).get_job_ids(cleanup=False) == []
    assert case.reasons() == []


def test_a_server_that_comes_back_empty_is_told_everything_again(case: LiveCase) -> None:
    record = case.request(nworkers=2)
    workers = case.pids()
    case.server.restart(keep_data=False)
    wait_until(lambda: case.pids() == workers, FEW_BEATS, what="the same workers are counted")
    restored = case.store.sets.get(0)
    assert restored is not None
    assert (restored.state, restored.generation, restored.deadline, restored.spec) == (
        State.ACTIVE,
        record.generation,
        record.deadline,
        record.spec,
    )
    assert case.store.sets.ids() == [0]
    assert restored.started_at
    names = {key.decode().removeprefix("rq:worker:") for key in case.store.client.smembers("rq:workers")}
    assert {worker.rq_name for worker in case.store.workers.alive([0])} <= names
    wait_until(lambda: case.store.provisioners.serving(case.host), 5, what="the provisioner is known again")
    job = case.queue().enqueue(jobs.square, 4)
    wait_until(lambda: job.get_status() is JobStatus.FINISHED, 12, what="work goes on")
    case.operations.release(0, timeout=20)
    assert survivors(workers) == []


def test_a_forgotten_set_is_not_brought_back_by_a_launcher_that_wakes_up(case: LiveCase) -> None:
    case.request(nworkers=1)
    launcher, workers = case.launcher(), case.pids()
    case.kill_provisioners()
    send_signal(launcher, signal.SIGSTOP)
    wait_until(lambda: case.store.workers.count(0) == 0, 15, what="its leases ended")
    record = case.store.sets.get(0)
    assert record is not None
    case.store.sets.transition(record, State.FAILED, "given up by hand", check_version=False)
    case.store.workers.leave(0, departures(case))
    case.store.forget()
    send_signal(launcher, signal.SIGCONT)
    wait_until(lambda: not is_alive(launcher), 15, what="the launcher ended")
    assert survivors(workers) == []
    assert case.store.sets.get(0) is None
    assert case.store.sets.ids() == []


def test_a_stopped_server_and_forgotten_scripts_cost_nothing(case: LiveCase) -> None:
    case.request(nworkers=3)
    workers = case.pids()
    first = [case.queue().enqueue(jobs.sleep, 0.05) for _ in range(60)]
    for _ in range(5):
        case.store.client.script_flush()
        holds_for(lambda: True, 0.05, what="some work is done in between")
    case.server.signal(signal.SIGSTOP)
    holds_for(lambda: len(survivors(workers)) == 3, 5.0, what="the workers live", interval=0.5)
    case.server.signal(signal.SIGCONT)
    all_finished(case, first)
    wait_until(lambda: case.pids() == workers, FEW_BEATS, what="the same workers are counted")
    assert case.reasons() == []
