"""Releases on a cluster: of sets that wait, run, are on their way, or gone; with the controller away; never half."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rq.job import JobStatus
from support import jobs
from support.slurm_cases import SlurmCase
from support.slurm_cluster import SlurmCluster
from support.waiting import holds_for, wait_until

from gutscore_rs.errors import ReleaseError
from gutscore_rs.store.records import State


def test_a_waiting_set_is_cancelled(slurm_case: SlurmCase, slurm: SlurmCluster) -> None:
    slurm.submit("sleep 600", "--nodes=4", "--exclusive")
    slurm_case.request(wait=False)
    job = slurm_case.job_of()
    slurm_case.wait_state(0, State.PENDING)
    slurm_case.operations.release(0, timeout=20)
    assert slurm_case.state_of() is State.RELEASED
    assert slurm.states()[job] == "CANCELLED"


def test_a_running_task_is_let_end_within_the_drain(slurm_case: SlurmCase, slurm: SlurmCluster) -> None:
    slurm_case.request(nworkers=1, drain_timeout=20)
    # It starts a process of its own, which the step's signal reaches, too.
    task = slurm_case.queue().enqueue(subprocess.run, ["sleep", "2"], check=True)
    wait_until(lambda: task.get_status() is JobStatus.STARTED, 10, what="the task runs")
    slurm_case.operations.release(0, timeout=40)
    assert task.get_status() is JobStatus.FINISHED
    assert slurm.states()[slurm_case.job_of()] == "COMPLETED"


def test_a_set_whose_job_ended_by_itself_is_released(slurm_case: SlurmCase, slurm: SlurmCluster) -> None:
    slurm_case.request()
    # Its provisioner is away while the job is cancelled.
    slurm_case.kill_provisioners()
    slurm_case.provisioners.clear()
    slurm.run("scancel", slurm_case.job_of())
    wait_until(lambda: slurm.jobs() == [], 20, what="the job is gone")
    assert slurm_case.operations.begin_release(0) is not None
    slurm_case.start_provisioner()
    slurm_case.wait_state(0, State.RELEASED, timeout=40)


def test_a_set_that_is_just_being_submitted_is_released(slurm_case: SlurmCase, slurm: SlurmCluster) -> None:
    for wgroup_id in range(4):
        slurm_case.request(wgroup_id, wait=False)
        slurm_case.operations.release(wgroup_id, timeout=30)
        assert slurm_case.state_of(wgroup_id) is State.RELEASED
    wait_until(lambda: slurm.jobs() == [], 10, what="an empty queue")


def test_a_job_that_slurm_forgot_is_gone(slurm_case: SlurmCase, slurm: SlurmCluster) -> None:
    slurm_case.request()
    slurm_case.store.sets.note(0, slurm_job="999999")
    record = slurm_case.record()
    slurm_case.store.submissions.record_job(record.token.partition(".")[0], "999999")
    slurm_case.operations.release(0, timeout=40)
    assert slurm_case.state_of() is State.RELEASED
    assert slurm.jobs() == []


def test_without_the_controller_a_release_names_what_may_survive_and_is_done_later(
    slurm_case: SlurmCase, slurm: SlurmCluster
) -> None:
    slurm.submit("sleep 600", "--nodes=4", "--exclusive")
    slurm_case.request(wait=False)
    job = slurm_case.job_of()
    slurm.stop("slurmctld")
    with pytest.raises(ReleaseError, match=f"Slurm job {job}") as raised:
        slurm_case.operations.release(0, timeout=6)
    assert isinstance(raised.value, RuntimeError)
    assert slurm_case.state_of() is State.RELEASING
    slurm.start("slurmctld")
    slurm_case.wait_state(0, State.RELEASED, timeout=60)
    assert slurm.states()[job] == "CANCELLED"


def test_without_a_provisioner_nothing_is_called_released_before_slurm_says_so(
    slurm_case: SlurmCase, slurm: SlurmCluster
) -> None:
    slurm.submit("sleep 600", "--nodes=4", "--exclusive")
    slurm_case.request(wait=False)
    slurm_case.wait_state(0, State.PENDING)
    job = slurm_case.job_of()
    slurm_case.kill_provisioners()
    slurm_case.provisioners.clear()
    with pytest.raises(ReleaseError, match=rf"{job}.*No provisioner serves slurm-"):
        # Longer than a provisioner's lease.
        slurm_case.operations.release(0, timeout=14)
    holds_for(lambda: slurm_case.state_of() is State.RELEASING, 0.5, what="it is not called released")
    slurm_case.start_provisioner()
    slurm_case.wait_state(0, State.RELEASED)


def test_a_killed_provisioner_leaves_a_release_to_the_next(slurm_case: SlurmCase, slurm: SlurmCluster) -> None:
    slurm_case.request(drain_timeout=3)
    task = slurm_case.queue().enqueue(jobs.sleep, 30)
    wait_until(lambda: task.get_status() is JobStatus.STARTED, 10, what="the task runs")
    slurm_case.operations.begin_release(0)
    slurm_case.kill_provisioners()
    slurm_case.provisioners.clear()
    slurm_case.start_provisioner()
    slurm_case.wait_state(0, State.RELEASED, timeout=60)
    assert slurm.jobs() == []
    assert task.get_status() is JobStatus.QUEUED


def test_orphans_are_listed_and_cancelled(slurm_case: SlurmCase, slurm: SlurmCluster, tmp_path: Path) -> None:
    slurm_case.request()
    script = tmp_path / "script"
    slurm.run("scontrol", "write", "batch_script", slurm_case.job_of(), str(script))
    slurm_case.operations.release(0, timeout=30)
    slurm_case.kill_provisioners()
    orphan = slurm.run("sbatch", "--parsable", "--hold", str(script)).strip()
    gutscore_rs = Path(sys.executable).parent / "gutscore-rs"

    def sweep(*options: str) -> dict[str, Any]:
        command = [gutscore_rs, "doctor", *options, "--orphans", "--json"]
        done = subprocess.run(command, env=slurm_case.env, capture_output=True, text=True, check=True, cwd=tmp_path)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    assert [job["job"] for job in sweep(slurm_case.name)["orphans"]] == [orphan]
    assert sweep()["orphans"] == [], "its case is known"
    assert sweep(slurm_case.name, "--cancel")["cancelled"]
    wait_until(lambda: slurm.states()[orphan] == "CANCELLED", 10, what="it is cancelled")
    assert sweep(slurm_case.name)["orphans"] == []
