"""Which Slurm clusters this host can submit to."""

from __future__ import annotations

import getpass
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace

from gutscore_rs.errors import SlurmError
from gutscore_rs.slurm import SlurmClient
from gutscore_rs.store import cluster_server
from gutscore_rs_workers.site import Cluster

# A provisioner asks in its loop, where it must soon be back at its beat.
PROBE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class SlurmOptions:
    """How a provisioner deals with Slurm.

    Attributes:
        clusters: Further clusters of the site, by name (``sbatch --clusters``); the host's own needs no name.
        poll_interval: Seconds between two looks at a queue, at least.
        lookup_time: Seconds for which a submission without an answer is looked for before another is made.
    """

    clusters: tuple[str, ...] = ()
    poll_interval: float = 60.0
    lookup_time: float = 180.0


def find_clusters(options: SlurmOptions) -> tuple[dict[str, Cluster], list[str]]:
    """The host's own cluster first, then those named, by their names as servers; and what is wrong with the others."""
    if shutil.which("sbatch") is None:
        return {}, [f"cluster {name}: there is no sbatch on PATH here" for name in options.clusters]
    found: dict[str, Cluster] = {}
    problems: list[str] = []
    for client in _clients(options.clusters):
        try:
            limits = replace(client, timeout=PROBE_SECONDS).limits()
        except SlurmError as error:
            problems.append(f"Slurm cluster {client.cluster or 'of this host'}: {error}")
            continue
        server = cluster_server(client.cluster or limits.name)
        if server not in found:
            found[server] = Cluster(
                server, client, limits, getpass.getuser(), options.poll_interval, options.lookup_time
            )
    return found, problems


def _clients(names: Iterable[str]) -> list[SlurmClient]:
    return [SlurmClient(), *(SlurmClient(name) for name in names)]
