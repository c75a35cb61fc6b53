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
