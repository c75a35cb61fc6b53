"""Tasks start processes that start processes, and all of them hide: nothing survives the end of its set."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import jobs, trees
from support.cases import LiveCase
from support.processes import lives, survivors
from support.waiting import holds_for, wait_until

from gutscore_rs.identity import is_alive
from gutscore_rs.processes import send_signal
from gutscore_rs.store.records import State

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sessions, subreapers and /proc are Linux's")

# What hides in all ways at once is found by who its parent is, and only while that parent's parent lives.
HIDDEN = "bare daemon"


@pytest.fixture
def family(case: LiveCase, tmp_path: Path) -> Iterator[Family]:
    found = Family(case, tmp_path / "family")
    yield found
    for pid in survivors(trees.pids(str(found.file))):
        os.kill(pid, signal.SIGKILL)


class Family:
    """What tasks of the only worker have started."""

    def __init__(self, case: LiveCase, file: Path) -> None:
        self.case = case
        self.file = file

    def plant(self, *ways: str, **spec: object) -> int:
        """Have one worker start a process in each way; its pid."""
        if not self.case.pids():
            self.case.request(nworkers=1, **spec)
        job = self.case.queue().enqueue(trees.plant, str(self.file), *(ways or trees.KINDS.values()))
        wait_until(lambda: job.get_status() == "finished", 30, what="all processes are started")
        assert len(survivors(self.pids)) == len(self.pids) >= len(ways)
        return job.return_value()

    @property
    def pids(self) -> list[int]:
        return trees.pids(str(self.file))

    def left(self) -> dict[int, str]:
        return {pid: Path(f"/proc/{pid}/cmdline").read_text().split("\0", 4)[4] for pid in survivors(self.pids)}

    def wait_gone(self, seconds: float) -> None:
        try:
            wait_until(lambda: not survivors(self.pids), seconds, what="nothing of it lives")
        except AssertionError:
            raise AssertionError(f"after {seconds} s these live: {self.left()}") from None


def test_nothing_that_a_task_started_survives_the_release(case: LiveCase, family: Family) -> None:
    family.plant()
    case.operations.release(0, timeout=30)
    assert family.left() == {}


def test_nothing_that_a_task_started_survives_the_deadline(case: LiveCase, family: Family) -> None:
    family.plant(runtime=4)
    wait_until(lambda: case.state_of() is State.EXPIRED, 15, what="the set expired")
    assert family.left() == {}


@pytest.mark.parametrize("ways", [[way for way in trees.KINDS.values() if HIDDEN not in way]], ids=["hidden or not"])
def test_what_a_task_started_dies_with_its_worker(case: LiveCase, family: Family, ways: list[str]) -> None:
    worker = family.plant(*ways)
    holds_for(lambda: len(survivors(family.pids)) == len(family.pids), 0.2, what="they live as long as their worker")
    os.kill(worker, signal.SIGKILL)
    family.wait_gone(3)
    case.wait_active(0, 1)


def test_what_hides_in_every_way_outlives_its_worker_and_not_its_set(case: LiveCase, family: Family) -> None:
    worker = family.plant("bare daemon", "bare daemon child")
    os.kill(worker, signal.SIGKILL)
    case.wait_active(0, 1)
    case.operations.release(0, timeout=30)
    assert family.left() == {}


@pytest.mark.parametrize("stopped", [False, True])
def test_what_tasks_started_dies_with_a_killed_launcher(case: LiveCase, family: Family, stopped: bool) -> None:
    family.plant(*(way for way in trees.KINDS.values() if HIDDEN not in way))
    launcher, workers = case.launcher(), case.pids()
    if stopped:
        # Its workers, and what they started, are stopped with it: none of them can do anything about its end.
        for pid in [*workers, *family.pids, launcher.pid]:
            os.kill(pid, signal.SIGSTOP)
    send_signal(launcher, signal.SIGKILL)
    family.wait_gone(5)
    wait_until(lambda: workers != case.pids() and len(case.pids()) == 1, 10, what="the set was launched again")


def test_down_ends_what_a_launcher_that_was_killed_without_a_provisioner_has_left(
    case: LiveCase, family: Family
) -> None:
    family.plant(*(way for way in trees.KINDS.values() if HIDDEN not in way), daemonize=True)
    launcher, workers = case.launcher(), case.pids()
    case.kill_provisioners()
    send_signal(launcher, signal.SIGKILL)
    wait_until(lambda: not is_alive(launcher), 5, what="the launcher is dead")
    wait_until(lambda: not survivors(workers), 5, what="its workers are dead")
    assert survivors(family.pids), "somebody ended them already"
    command = [sys.executable, "-m", "gutscore_rs", "down", case.name, "--timeout", "2"]
    done = subprocess.run(command, env=case.env, text=True, capture_output=True, timeout=60, check=False)
    assert family.left() == {}, done.stderr


def test_a_task_that_forks_faster_than_it_is_found_does_not_outlive_its_set(case: LiveCase, family: Family) -> None:
    case.request(nworkers=1)
    case.queue().enqueue(jobs.fork_for_ever, str(family.file))
    wait_until(lambda: len(family.pids) > 50, 15, what="it forks")
    case.operations.release(0, timeout=30)
    # The file grows no more: whoever lives would write into it.
    before = len(family.pids)
    holds_for(lambda: len(family.pids) == before, 0.5, what="nobody forks any more")
    assert [pid for pid in family.pids if lives(pid)] == []
