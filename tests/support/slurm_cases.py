"""A whole case whose workers run in jobs of a real Slurm."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.cases import SUPPORT, LiveCase
from support.slurm_cluster import SlurmCluster
from support.waiting import wait_until

from gutscore_rs.config import SlurmSection
from gutscore_rs.entrypoints import provisioner_command
from gutscore_rs.identity import ProcessIdentity
from gutscore_rs.store import cluster_server
from gutscore_rs.store.records import ResourceSetRecord, State


@dataclass
class SlurmCase(LiveCase):
    """A case with a provisioner on a "login node", the test's host.

    Attributes:
        options: The ``[slurm]`` section of its provisioner.
        extra: Further variables of its provisioners.
    """

    slurm: SlurmCluster = field(kw_only=True)
    options: SlurmSection = field(kw_only=True, default_factory=lambda: SlurmSection(poll_interval=1, lookup_time=3))
    extra: dict[str, str] = field(kw_only=True, default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        # As on a site, where the workers' code is on a shared file system and found by the environment.
        return super().env | {"SLURM_CONF": str(self.slurm.conf)} | self.extra

    def provisioner_command(self, owner: ProcessIdentity | None) -> list[str]:
        return provisioner_command(self.folder.access_file, owner=owner, slurm=self.options)

    @property
    def cluster_server(self) -> str:
        return cluster_server(self.slurm.name)

    def start_provisioner(self, *, owner: ProcessIdentity | None = None) -> ProcessIdentity:
        identity = super().start_provisioner(owner=owner)
        wait_until(
            lambda: any(record.pid == identity.pid for record in self.store.provisioners.serving(self.cluster_server)),
            20,
            what="the provisioner serves its cluster",
        )
        return identity

    def restart(self, programs: Path | None = None) -> None:
        """Another provisioner; with a folder of programs that stand before Slurm's own."""
        self.kill_provisioners()
        self.provisioners.clear()
        self.extra.pop("PATH", None)
        if programs is not None:
            self.extra["PATH"] = f"{programs}:{os.environ['PATH']}"
        self.start_provisioner()

    def spec(self, **changes: Any) -> dict[str, Any]:
        return {
            "backend": "slurm",
            "nworkers": 2,
            "runtime": 300,
            "daemonize": False,
            "drain_timeout": 1.0,
            "path": [str(SUPPORT)],
        } | changes

    def request(
        self, wgroup_id: int = 0, *, nworkers: int = 2, runtime: int = 300, wait: bool = True, **spec: Any
    ) -> ResourceSetRecord:
        """Request a set on Slurm, and wait until its workers live."""
        self.operations.request(wgroup_id, self.spec(nworkers=nworkers, runtime=runtime, **spec))
        if wait:
            self.wait_active(wgroup_id, nworkers, 30)
        return self.record(wgroup_id)

    def wait_active(self, wgroup_id: int, nworkers: int, timeout: float = 20.0) -> None:
        wait_until(
            lambda: self.store.workers.count(wgroup_id) == nworkers or self.record(wgroup_id).state.ended,
            timeout,
            what=f"{nworkers} workers of set {wgroup_id} are counted",
        )
        assert not self.record(wgroup_id).state.ended, self.record(wgroup_id).error

    def record(self, wgroup_id: int = 0) -> ResourceSetRecord:
        found = self.store.sets.get(wgroup_id)
        assert found is not None
        return found

    def wait_state(self, wgroup_id: int, *states: State, timeout: float = 20) -> ResourceSetRecord:
        wait_until(
            lambda: self.state_of(wgroup_id) in states,
            timeout,
            what=f"set {wgroup_id} is {' or '.join(states)}; so far: {self.whys(wgroup_id)}",
        )
        return self.record(wgroup_id)

    def job_of(self, wgroup_id: int = 0) -> str:
        """Slurm's name of the set's job."""
        return wait_until(lambda: self.record(wgroup_id).slurm_job, 20, what=f"set {wgroup_id} has a job")

    def hosts(self, wgroup_id: int = 0) -> Mapping[str, int]:
        """Living workers by host."""
        found: dict[str, int] = {}
        for worker in self.store.workers.alive([wgroup_id]):
            found[worker.host] = found.get(worker.host, 0) + 1
        return found
