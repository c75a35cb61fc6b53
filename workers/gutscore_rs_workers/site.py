"""What an operation needs of its surroundings: the case, this host, the clusters that can be reached from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gutscore_rs.access import Access
from gutscore_rs.paths import CaseFolder
from gutscore_rs.slurm import ClusterLimits, SlurmClient
from gutscore_rs.store import Store
from gutscore_rs_workers.fork_server import ForkServer


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Slurm cluster that this host can submit to.

    Attributes:
        server: Its name as a server of requests, see ``store.keys.cluster_server``.
        client: How to speak to it.
        limits: What it allows, as last asked.
        user: Whose jobs they are.
        poll_interval: Seconds between two looks at its queue, at least.
        lookup_time: Seconds for which a submission without an answer is looked for before another is made.
    """

    server: str
    client: SlurmClient
    limits: ClusterLimits
    user: str
    poll_interval: float
    lookup_time: float


@dataclass(frozen=True, slots=True)
class Allocation:
    """The Slurm job that this provisioner itself runs in.

    Attributes:
        server: Its name as a server of requests, see ``store.keys.allocation_server``.
        job_id: The job.
        nodes: Number of its nodes.
        end: Unix second of its time limit; 0.0: not known.
    """

    server: str
    job_id: str
    nodes: int
    end: float


@dataclass(frozen=True, slots=True)
class Site:
    """What an operation needs of its surroundings.

    Attributes:
        host: This host's name.
        folder: The case's folder here.
        fork_server: What forks launchers, if there is one.
        clusters: The clusters that are served, by their names as servers.
        allocation: The job whose nodes are served, if this host is in one.
    """

    store: Store
    access: Access
    host: str
    folder: CaseFolder
    fork_server: ForkServer | None = None
    clusters: Mapping[str, Cluster] = field(default_factory=dict)
    allocation: Allocation | None = None
