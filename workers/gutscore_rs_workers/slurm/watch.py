"""A provisioner's eye on its clusters: looks are taken in processes of their own, since Slurm may be slow to answer."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import replace

from gutscore_rs.errors import SlurmError
from gutscore_rs.store import Store
from gutscore_rs.store.records import ResourceSetRecord, State
from gutscore_rs.store.submissions import SubmissionRecord
from gutscore_rs_workers.site import Cluster, Site
from gutscore_rs_workers.slurm.judge import judge, open_submissions, sets_on, unwanted_jobs
from gutscore_rs_workers.slurm.poll import Poll, keys_of, look, newest

log = logging.getLogger(__name__)

# Whose turn it is to look; renewed at each round while the look lasts, so that a killed provisioner blinds nobody.
TURN_SECONDS = 15.0
# Where a set's state cannot be told without Slurm, the next look comes sooner.
URGENT = 5.0
# Looks of many cases and hosts must not fall on the same second.
JITTER = 0.2

ForkLook = Callable[[Callable[[], int], str], int]


class Watch:
    """Looks at the queues of clusters when it is time to, and judges what others saw.

    Args:
        owner: Names this provisioner among those that share a look.
        fork: Runs a function in a process of its own, under a title; gives its pid.
    """

    def __init__(self, owner: str, fork: ForkLook) -> None:
        self._owner = owner
        self._fork = fork
        self._looking: dict[int, Cluster] = {}
        self._seen: list[Cluster] = []
        self._judged: dict[str, float] = {}
        self._stretch: dict[str, float] = {}

    def round(self, site: Site) -> list[str]:
        """One round over all clusters; what is wrong with them."""
        self._keep_turns(site.store)
        complaints = []
        for cluster in site.clusters.values():
            records = sets_on(site, cluster.server)
            submissions = open_submissions(site, cluster.server, records)
            if not submissions:
                continue
            poll = newest(site, cluster)
            if poll is not None and poll.at > self._judged.get(cluster.server, 0.0):
                self._judged[cluster.server] = poll.at
                if poll.error:
                    complaints.append(f"Slurm cluster {cluster.limits.name}: {poll.error}")
                else:
                    judge(site, cluster, poll, submissions, records)
            if self._is_due(site, cluster, poll, records):
                self._look(site, cluster, submissions)
        return complaints

    def _keep_turns(self, store: Store) -> None:
        for cluster in self._looking.values():
            store.polls.take_turn(keys_of(cluster), self._owner, TURN_SECONDS)
        while self._seen:
            store.polls.end_turn(keys_of(self._seen[-1]), self._owner)
            self._seen.pop()

    def _is_due(self, site: Site, cluster: Cluster, poll: Poll | None, records: Iterable[ResourceSetRecord]) -> bool:
        if any(cluster.server == other.server for other in self._looking.values()):
            return False
        age = site.store.time() - poll.at if poll else float("inf")
        interval = cluster.poll_interval * self._stretch.setdefault(cluster.server, self._jitter())
        return age >= interval or (age >= min(URGENT, interval) and _is_urgent(site, records))

    @staticmethod
    def _jitter() -> float:
        return 1.0 + random.uniform(0.0, JITTER)  # noqa: S311

    def _look(self, site: Site, cluster: Cluster, submissions: list[SubmissionRecord]) -> None:
        if not site.store.polls.take_turn(keys_of(cluster), self._owner, TURN_SECONDS):
            return
        self._stretch[cluster.server] = self._jitter()
        pid = self._fork(
            lambda: _look_and_tidy(site, cluster, submissions), f"gutscore_rs: look at cluster {cluster.limits.name}"
        )
        self._looking[pid] = cluster

    def ended(self, pid: int) -> bool:
        """A child ended: whether it was a look of ours. Its turn ends with the next round, when Redis answers."""
        cluster = self._looking.pop(pid, None)
        self._seen += [cluster] if cluster else []
        return cluster is not None


def _is_urgent(site: Site, records: Iterable[ResourceSetRecord]) -> bool:
    """Whether only Slurm knows what a set is: it answered nothing yet, or the launchers are gone."""
    for record in records:
        if record.state is State.SUBMITTING or (record.state is State.PENDING and not record.pending_reason):
            return True
        if record.state in (State.STARTING, State.ACTIVE) and not site.store.sets.launchers(record.wgroup_id):
            return True
    return False


def _look_and_tidy(site: Site, cluster: Cluster, submissions: list[SubmissionRecord]) -> int:
    store = Store.open(site.access, name="slurm")
    site = replace(site, store=store)
    poll = look(site, cluster, submissions)
    unwanted = [] if poll.error else unwanted_jobs(site, cluster, poll)
    if unwanted:
        log.warning("cancelling Slurm jobs that no resource set waits for: %s", ", ".join(unwanted))
        try:
            cluster.client.cancel(unwanted)
        except SlurmError as error:
            log.warning("%s", error)
    return 0
