"""Many sets, few calls: equal sets go as one job array, and one release cancels them together."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.slurm_cases import SlurmCase
from support.slurm_cluster import SlurmCluster, counting
from support.waiting import holds_for, wait_until

from gutscore_rs.config import SlurmSection
from gutscore_rs.store.records import State


@pytest.fixture
def calls(slurm_case: SlurmCase, tmp_path: Path) -> Path:
    """The provisioner anew, with its calls of Slurm's programs written into a file, a name a line."""
    log = tmp_path / "calls"
    slurm_case.restart(counting(tmp_path, log))
    log.write_text("")
    return log


def made(log: Path, program: str) -> int:
    return log.read_text().split().count(program)


def all_in(case: SlurmCase, count: int, *states: State) -> bool:
    return [record.state for record in case.store.sets.all()].count(states[0]) == count


def test_two_hundred_sets_are_three_submissions_at_most(
    slurm_case: SlurmCase, calls: Path, slurm: SlurmCluster
) -> None:
    # All of them wait: this is about the calls, not about 200 launchers on one host.
    slurm.submit("sleep 600", "--nodes=4", "--exclusive")
    spec = slurm_case.spec(nworkers=1)
    for wgroup_id in range(200):
        slurm_case.operations.request(wgroup_id, spec)
    wait_until(
        lambda: all(record.slurm_job for record in slurm_case.store.sets.all()), 30, what="every set has its job"
    )
    assert 1 <= made(calls, "sbatch") <= 3
    records = slurm_case.store.sets.all()
    assert len({record.slurm_job for record in records}) == 200
    for wgroup_id in range(200):
        slurm_case.operations.begin_release(wgroup_id)
    wait_until(lambda: all_in(slurm_case, 200, State.RELEASED), 60, what="all are released")
    assert [job.name for job in slurm.jobs()] == ["wrap"]
    assert made(calls, "scancel") <= 3


def test_each_task_of_an_array_finds_its_own_set(slurm_case: SlurmCase) -> None:
    for wgroup_id in range(3):
        slurm_case.operations.request(wgroup_id, slurm_case.spec(nworkers=2))
    for wgroup_id in range(3):
        slurm_case.wait_active(wgroup_id, 2, 40)
    jobs = {slurm_case.record(wgroup_id).slurm_job for wgroup_id in range(3)}
    assert {job.partition("_")[2] for job in jobs} == {"0", "1", "2"}
    for wgroup_id in range(3):
        workers = slurm_case.store.workers.alive([wgroup_id])
        assert {worker.slurm["job"] for worker in workers} == {slurm_case.record(wgroup_id).slurm_job}


def test_the_release_of_one_leaves_the_others_of_its_array(slurm_case: SlurmCase) -> None:
    for wgroup_id in range(3):
        slurm_case.operations.request(wgroup_id, slurm_case.spec(nworkers=1))
    for wgroup_id in range(3):
        slurm_case.wait_active(wgroup_id, 1, 40)
    others = slurm_case.pids(0) + slurm_case.pids(2)
    slurm_case.operations.release(1, timeout=30)
    assert slurm_case.pids(0) + slurm_case.pids(2) == others
    assert [slurm_case.state_of(wgroup_id) for wgroup_id in range(3)] == [State.ACTIVE, State.RELEASED, State.ACTIVE]


def test_the_release_of_a_waiting_task_leaves_the_rest_of_its_array_waiting(
    slurm_case: SlurmCase, slurm: SlurmCluster
) -> None:
    # One at a time: the others wait as one line of squeue.
    spec = slurm_case.spec(nworkers=1, array_throttle=1)
    for wgroup_id in range(4):
        slurm_case.operations.request(wgroup_id, spec)
    wait_until(lambda: all(record.slurm_job for record in slurm_case.store.sets.all()), 20, what="jobs")
    wait_until(lambda: sum(map(slurm_case.store.workers.count, range(4))) == 1, 20, what="one of them works")
    waiting = [record.wgroup_id for record in slurm_case.store.sets.all() if record.state is State.PENDING]
    assert len(waiting) == 3
    slurm_case.operations.release(waiting[1], timeout=30)
    assert slurm_case.state_of(waiting[1]) is State.RELEASED
    assert slurm_case.state_of(waiting[0]) is State.PENDING
    assert slurm_case.state_of(waiting[2]) is State.PENDING
    wait_until(lambda: "JobArrayTaskLimit" in slurm_case.record(waiting[0]).pending_reason, 10, what="the reason")


def test_arrays_are_split_at_the_clusters_limit(slurm_case: SlurmCase, calls: Path, slurm: SlurmCluster) -> None:
    with slurm.configured(MaxArraySize="5"):
        slurm_case.kill_provisioners()
        slurm_case.provisioners.clear()
        slurm_case.start_provisioner()
        calls.write_text("")
        for wgroup_id in range(12):
            slurm_case.operations.request(wgroup_id, slurm_case.spec(nworkers=1))
        wait_until(lambda: all(one.slurm_job for one in slurm_case.store.sets.all()), 30, what="every set has its job")
        assert made(calls, "sbatch") == 3
        sizes = sorted(len(one.sets) for one in slurm_case.store.submissions.open())
        assert sizes == [2, 5, 5]


def test_sets_that_differ_go_apart(slurm_case: SlurmCase, calls: Path) -> None:
    slurm_case.operations.request(0, slurm_case.spec(nworkers=1))
    slurm_case.operations.request(1, slurm_case.spec(nworkers=1, runtime=600))
    slurm_case.wait_active(0, 1, 30)
    slurm_case.wait_active(1, 1, 30)
    assert made(calls, "sbatch") == 2


def test_provisioners_share_one_look_at_the_queue(slurm_case: SlurmCase, calls: Path, slurm: SlurmCluster) -> None:
    slurm.submit("sleep 600", "--nodes=4", "--exclusive")
    slurm_case.kill_provisioners()
    slurm_case.provisioners.clear()
    slurm_case.options = SlurmSection(poll_interval=3, lookup_time=3)
    for host in ("login-1", "login-2", "login-3"):
        slurm_case.host = host
        slurm_case.start_provisioner()
    calls.write_text("")
    slurm_case.request(wait=False)
    wait_until(lambda: "estimated start" in slurm_case.record().pending_reason, 20, what="the reason is told")
    began, before = slurm_case.store.time(), made(calls, "squeue")
    holds_for(lambda: slurm_case.state_of() is State.PENDING, 9.0, what="it waits", interval=0.5)
    # One in three seconds, for all of them; none of it is needed by a count.
    assert made(calls, "squeue") - before <= (slurm_case.store.time() - began) / 3 + 1
