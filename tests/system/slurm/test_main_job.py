"""The main job on Slurm: the example with four nodes gives what it gives on one host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.slurm_cluster import SlurmCluster
from support.waiting import wait_until

EXAMPLE = Path(__file__).parents[3] / "examples" / "double_well"


@pytest.fixture
def env(slurm: SlurmCluster, tmp_path: Path) -> dict[str, str]:
    return dict(os.environ) | {
        "SLURM_CONF": str(slurm.conf),
        "GUTSCORE_RS_STATE_DIR": str(tmp_path / "state"),
        "MPLCONFIGDIR": str(tmp_path / "mpl"),
    }


def run(case: Path, env: dict[str, str], cwd: Path) -> dict[str, Any]:
    command = [Path(sys.executable).parent / "gutscore-rs", "run", str(case), "--json"]
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


def test_four_nodes_give_the_same_summary_as_one_host(slurm: SlurmCluster, env: dict[str, str], tmp_path: Path) -> None:
    on_slurm, here = run(EXAMPLE / "slurm.toml", env, tmp_path), run(EXAMPLE / "case.toml", env, tmp_path)
    assert on_slurm["driver"] == here["driver"]
    assert on_slurm["tasks"] == here["tasks"]
    [one] = on_slurm["resource_sets"]
    assert (one["state"], one["peak_active"]) == ("released", 8)
    assert slurm.jobs() == []
    [job] = [job for job in slurm.jobs("--states=all") if job.nodes == "n[1-4]" and job.name.startswith("gsrs-")]
    assert job.state == "COMPLETED"
    assert list((tmp_path / "state" / "cases").glob("*/access.json")) == []


def test_within_an_allocation_the_same_runs_on_its_nodes_and_nothing_is_submitted(
    slurm: SlurmCluster, env: dict[str, str], tmp_path: Path
) -> None:
    program, summary = Path(sys.executable).parent / "gutscore-rs", tmp_path / "summary"
    script = tmp_path / "job.sh"
    script.write_text(f"#!/bin/bash\n{program} run {EXAMPLE / 'slurm.toml'} --json > {summary}\n")
    exported = ",".join(f"{name}={env[name]}" for name in ("GUTSCORE_RS_STATE_DIR", "MPLCONFIGDIR", "PATH", "HOME"))
    before = {job.job for job in slurm.jobs("--states=all")}
    job = slurm.run(
        "sbatch", "--parsable", "--nodes=4", "--ntasks-per-node=1", "--cpus-per-task=2", f"--export={exported}",
        f"--output={tmp_path / 'out'}", f"--chdir={tmp_path}", str(script),
    ).strip()  # fmt: skip
    wait_until(lambda: slurm.states().get(job) in ("COMPLETED", "FAILED"), 90, what="the job ends", interval=0.2)
    assert slurm.states()[job] == "COMPLETED", (tmp_path / "out").read_text()
    found = json.loads(summary.read_text())
    assert found["tasks"] == {"finished": 929, "failed": 0}
    assert [(one["state"], one["peak_active"]) for one in found["resource_sets"]] == [("released", 8)]
    assert {one.job for one in slurm.jobs("--states=all")} - before == {job}
