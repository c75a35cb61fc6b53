"""The main path: request, count, feed, release, with real processes."""

from __future__ import annotations

from support import jobs
from support.cases import LiveCase
from support.waiting import wait_until

from gutscore_rs.identity import process_stat
from gutscore_rs.log_files import CAP_BYTES
from gutscore_rs.store.records import State


def test_a_requested_set_becomes_active_works_and_is_released(case: LiveCase) -> None:
    case.request(nworkers=3)
    assert case.state_of() is State.ACTIVE
    done = {
        job.return_value()
        for job in case.tasks.as_completed([case.queue().enqueue(jobs.square, n) for n in range(50)], timeout=30)
    }
    assert done == {n * n for n in range(50)}
    pids = [*case.pids(), case.launcher().pid]
    case.operations.release(0, timeout=20)
    assert case.state_of() is State.RELEASED
    assert case.store.workers.count(0) == 0
    assert not [pid for pid in pids if (stat := process_stat(pid)) and stat[0] not in "ZX"]


def test_two_sets_are_counted_apart_and_together(case: LiveCase) -> None:
    case.request(0, nworkers=2)
    case.request(1, nworkers=1)
    assert case.store.workers.counts([0, 1]) == {0: 2, 1: 1}
    assert case.store.workers.counts_by_host([0, 1]) == {case.host: 3}
    case.operations.release(0)
    assert case.store.workers.counts([0, 1]) == {0: 0, 1: 1}


def test_an_ended_set_can_be_requested_again_under_its_id(case: LiveCase) -> None:
    first = case.request(nworkers=1)
    case.operations.release(0)
    second = case.request(nworkers=2)
    assert second.generation == first.generation + 1
    wait_until(lambda: case.state_of() is State.ACTIVE, what="the second request is active")


def test_logs_that_are_full_are_emptied_by_launcher_and_provisioner(case: LiveCase) -> None:
    old = [case.folder.logs / "set-0" / "g1" / "old.log", case.folder.logs / "old.log"]
    for file in old:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as stream:
            stream.truncate(CAP_BYTES + 1)
    case.request(nworkers=1)
    case.start_provisioner()
    wait_until(lambda: [file.stat().st_size for file in old] == [0, 0], what="both logs are empty")
    case.operations.release(0, timeout=20)
