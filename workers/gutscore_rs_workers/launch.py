"""What one launch of a resource set on one host is: handed to the launcher's parts, never changed."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gutscore_rs.access import Access
from gutscore_rs.identity import ProcessIdentity
from gutscore_rs.settings import MARK, environment_value
from gutscore_rs.store.records import ResourceSetRecord
from gutscore_rs_workers.pace import LARGEST_BATCH
from gutscore_rs_workers.slurm.place import SlurmPlace, share


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch.

    Attributes:
        access: How to reach Redis.
        identity: The launcher process.
        token: Names the launch.
        nonce: Tells two launchers of one launch apart.
        record: The set as it was at the attach.
        server_time: Server seconds of that moment.
        logs: Folder of the workers' logs.
        state_root: The state folder.
        place: Where in a Slurm job this is, if in one.
        attached_at: Monotonic second of the attach.
    """

    access: Access
    identity: ProcessIdentity
    token: str
    nonce: str
    record: ResourceSetRecord
    server_time: float
    logs: Path
    state_root: Path
    place: SlurmPlace | None = None
    attached_at: float = field(default_factory=time.monotonic)

    @property
    def wgroup_id(self) -> int:
        return self.record.wgroup_id

    @property
    def generation(self) -> int:
        return self.record.generation

    @property
    def node(self) -> str:
        return self.identity.host

    @property
    def owner(self) -> str:
        """What the scripts compare with Redis."""
        return f"{self.token}:{self.nonce}:"

    @property
    def spec(self) -> dict[str, Any]:
        return self.record.spec

    @property
    def indices(self) -> range:
        """Indices of the workers of this host, within the set."""
        if self.place is None:
            return range(self.record.nworkers)
        return share(self.record.nworkers, self.place.rank, self.place.nodes)

    @property
    def nworkers(self) -> int:
        """Workers of this host."""
        return len(self.indices)

    @property
    def queues(self) -> tuple[str, ...]:
        """Full names of the task queues, in order of priority."""
        return tuple(self.spec.get("queues", ()))

    @property
    def drain_timeout(self) -> float:
        """Seconds that a running task may go on after a drain began."""
        return float(self.spec.get("drain_timeout", 5.0))

    @property
    def timeout_grace(self) -> float:
        """Seconds beyond its job's timeout when a worker is killed: SIGALRM cannot interrupt C code."""
        return float(self.spec.get("timeout_grace", 15.0))

    @property
    def largest_batch(self) -> int:
        """How many jobs a worker may take at once."""
        return int(self.spec.get("batch") or LARGEST_BATCH)

    @property
    def isolated(self) -> bool:
        """Whether each job gets a process of its own."""
        return self.spec.get("isolation") == "process"

    @property
    def deadline(self) -> float:
        """Monotonic second at which the set's runtime ends, as known at the attach."""
        return self.monotonic(self.record.deadline or self.server_time + self.record.runtime)

    def monotonic(self, server_time: float) -> float:
        """The second of our clock that belongs to one of the server's."""
        return self.attached_at + server_time - self.server_time

    @property
    def label(self) -> str:
        """The set, for people."""
        return f"resource set {self.wgroup_id} of case {self.access.case}"

    @property
    def mark(self) -> str:
        """The mark in the environment of everything that this launch started."""
        return environment_value(MARK) or self.token
