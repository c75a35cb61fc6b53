"""The private Slurm that these tests stand on: what it is, another one beside it, and nothing left of it."""

from __future__ import annotations

import os
from pathlib import Path

from support.slurm_cluster import SlurmCluster, lives
from support.waiting import wait_until


def processes_of(folder: Path) -> list[int]:
    """Processes that have a file of a folder open, or work in it."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                links = [os.readlink(link) for link in [*(entry / "fd").iterdir(), entry / "cwd"]]
            except OSError:
                continue
            if any(link.startswith(str(folder)) for link in links):
                found.append(int(entry.name))
    return found


def test_it_has_four_idle_nodes_and_three_partitions(slurm: SlurmCluster) -> None:
    rows = slurm.run("sinfo", "--noheader", "--format=%P|%D|%l|%T").split()
    assert rows == ["debug*|4|infinite|idle", "short|4|10:00|idle", "preempt|4|infinite|idle"]


def test_a_second_cluster_lives_beside_it_and_leaves_nothing(slurm: SlurmCluster, tmp_path: Path) -> None:
    second = SlurmCluster(tmp_path / "second", "--nodes=2", "--set", "MaxArraySize=7")
    try:
        assert second.name != slurm.name
        assert "MaxArraySize            = 7" in second.run("scontrol", "show", "config")
        # The shell of the job, and what left its session.
        second.submit(f"setsid sleep 600 & echo $! > {tmp_path}/pid; sleep 600")
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), 20, what="its job runs")
        stray = int((tmp_path / "pid").read_text())
        second.kill("slurmctld")
        second.kill("n1")
    finally:
        second.down()
    assert not (tmp_path / "second").exists()
    assert processes_of(tmp_path / "second") == []
    wait_until(lambda: not lives(stray), 5, what="the end of what left its job")
    assert "UP" in slurm.run("scontrol", "ping")
