"""The server's clock is set by an hour while a case runs (rulings 21): leases, deadlines and jobs stand it.

The clock is the server's own, by libfaketime (package ``libfaketime`` of Debian); nobody else's is touched.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from rq.job import Job, JobStatus
from support import jobs
from support.cases import LiveCase
from support.invariants import states_are_explained
from support.processes import Stopwatch
from support.servers import Server
from support.waiting import holds_for, wait_until

from gutscore_rs.store.records import State

# One beat, and some room: until then nobody's lease fits the new clock.
NEXT_BEAT = 5.5
SURE = 12.5
HOST_LOST = 15.0
HOUR = 3600


class ClockedServer(Server):
    """A server whose clock can be set."""

    def __init__(self, library: Path) -> None:
        super().__init__("valkey")
        self.env = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.folder / "clock"),
            "FAKETIME_NO_CACHE": "1",
            # Timers go on as they are: only the wall clock is set, as by NTP or a person.
            "DONT_FAKE_MONOTONIC": "1",
        }
        self.step(1)

    def step(self, seconds: int) -> None:
        """Set the clock to so many seconds before (-) or after the true time; 0 would not be taken note of."""
        new = self.folder / "clock.new"
        new.write_text(f"{seconds:+d}s\n")
        new.replace(self.folder / "clock")


@pytest.fixture
def clock() -> Iterator[ClockedServer]:
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    if not found:
        message = "libfaketime is not installed"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    server = ClockedServer(found[0])
    server.start()
    yield server
    server.stop()


@pytest.fixture
def case(clock: ClockedServer, tmp_path: Path) -> Iterator[LiveCase]:
    live = LiveCase(clock, tmp_path / "state")
    live.start_provisioner()
    yield live
    live.close()


def words(file: Path) -> list[str]:
    return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []


def test_a_clock_that_is_set_costs_no_worker_no_job_and_no_set(
    case: LiveCase, clock: ClockedServer, tmp_path: Path
) -> None:
    record = case.request(0, nworkers=2, runtime=600)
    case.request(1, nworkers=1, runtime=600)
    workers, marks, before = [case.pids(0), case.pids(1)], tmp_path / "marks", case.store.time()
    running = [case.queue().enqueue(jobs.sleep, 29.0, str(marks), result_ttl=10_000) for _ in range(3)]
    wait_until(lambda: words(marks).count("begin") == 3, what="the jobs have begun")
    watch = Stopwatch()
    for step in (HOUR, -1):
        # For a lease the reaper has been sure of its contact: it would believe what it sees.
        holds_for(lambda: [case.pids(0), case.pids(1)] == workers, SURE, what="all are counted", interval=0.5)
        if step < 0:
            lost = lose_a_host(case, tmp_path / "lost")
        clock.step(step)
        # The server keeps the time for a moment.
        wait_until(lambda by=step: abs(case.store.time() - before - watch.seconds - by) < 5, 2, what="the clock is set")
        wait_until(lambda: [case.pids(0), case.pids(1)] == workers, NEXT_BEAT, what="the same workers are counted")
    back = Stopwatch()
    # Its lease ends in an hour by the new clock; it is not alive for an hour.
    assert case.store.workers.count(2) == 0
    wait_until(lambda: all(job.get_status() is JobStatus.FINISHED for job in running), 20, what="the jobs finished")
    assert words(marks).count("begin") == 3, "a job was given to another worker although its own lived"
    wait_until(lambda: lost.get_status() is JobStatus.FINISHED, 20, what="the job of the lost host ran elsewhere")
    assert back.seconds < HOST_LOST
    assert ["its lease ended" in reason for reason in case.reasons()] == [True]
    after = case.store.sets.get(0)
    assert after is not None
    assert (after.state, after.deadline, after.launches) == (State.ACTIVE, record.deadline, 1)
    os.kill(workers[0][0], signal.SIGKILL)
    wait_until(lambda: workers[0][0] not in case.pids(0), 1.0, what="a killed worker is not counted")
    states_are_explained(case, [0, 1, 2])
    os.kill(case.launcher(2).pid, signal.SIGCONT)
    for wgroup_id in (0, 1, 2):
        case.operations.release(wgroup_id, timeout=20)


def lose_a_host(case: LiveCase, marks: Path) -> Job:
    """A set whose processes are as those of a host that is cut off: nothing beats, and nobody sees whether it lives."""
    case.request(2, nworkers=1, runtime=600)
    job = case.queue().enqueue(jobs.sleep_less_again, 60.0, 0.0, str(marks), result_ttl=10_000)
    wait_until(lambda: words(marks) == ["begin"], what="the job has begun")
    for pid in (case.launcher(2).pid, *case.pids(2)):
        os.kill(pid, signal.SIGSTOP)
    return job
