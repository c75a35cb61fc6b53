"""With an accounting database: what squeue has forgotten sacct knows, and limits of associations are real.

Only with ``--slurm-accounting``: it needs Debian's slurmdbd and mariadb-server.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.servers import Server
from support.slurm_cases import SlurmCase
from support.slurm_cluster import SlurmCluster, needs_slurm
from support.waiting import wait_until

from gutscore_rs.store.records import State


@pytest.fixture(scope="module")
def accounted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """A cluster with slurmdbd that forgets ended jobs after two seconds."""
    if not request.config.getoption("--slurm-accounting"):
        pytest.skip("needs --slurm-accounting")
    needs_slurm()
    folder = tmp_path_factory.mktemp("accounted") / "cluster"
    cluster = SlurmCluster(folder, "--accounting", "--set", "MinJobAge=2")
    yield cluster
    cluster.down()


@pytest.fixture
def case(accounted: SlurmCluster, server: Server, tmp_path: Path) -> Iterator[SlurmCase]:
    live = SlurmCase(server, tmp_path / "state", slurm=accounted)
    live.start_provisioner()
    yield live
    live.close()
    accounted.settle()


def test_what_squeue_forgot_sacct_tells(case: SlurmCase, accounted: SlurmCluster) -> None:
    case.request(nworkers=1)
    job = case.job_of()
    case.kill_provisioners()
    case.provisioners.clear()
    accounted.run("scancel", job)
    wait_until(lambda: job not in accounted.states(), 60, what="squeue forgets the job")
    wait_until(
        lambda: "CANCELLED" in accounted.run("sacct", "-nXj", job, "--format=State%30"), 30, what="sacct knows its end"
    )
    case.start_provisioner()
    assert "CANCELLED" in case.wait_state(0, State.FAILED, timeout=30).error


def test_a_real_limit_on_submissions_means_wait(case: SlurmCase, accounted: SlurmCluster) -> None:
    accounted.run("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=1")
    try:
        case.request(0, nworkers=1)
        case.request(1, nworkers=2, wait=False)
        wait_until(lambda: case.record(1).pending_reason, 15, what="it says why it waits")
        assert "AssocMaxSubmitJobLimit" in case.record(1).pending_reason
        assert case.state_of(1) is State.REQUESTED
        case.operations.release(1, timeout=20)
    finally:
        accounted.run("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=-1")
