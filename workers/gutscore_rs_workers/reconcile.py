"""Reconcile: compare what Redis says with what is, and set right what differs. Every step may be repeated."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gutscore_rs.errors import GutscoreError, StoreUnavailableError
from gutscore_rs.identity import boot_id, is_alive, is_here
from gutscore_rs.operations.doorbell import ring
from gutscore_rs.store import operations_queue
from gutscore_rs.store.records import OPEN, ResourceSetRecord, State
from gutscore_rs.store.workers import LEASE_SECONDS, Departure, host_of
from gutscore_rs_workers.local_backend import (
    bury_launcher,
    dead_launchers,
    is_marked_alive,
    relaunch,
)
from gutscore_rs_workers.recovery import recover_lost
from gutscore_rs_workers.rq_bridge import move_due_jobs
from gutscore_rs_workers.site import Site
from gutscore_rs_workers.slurm.steps import judge as judge_step

log = logging.getLogger(__name__)

# A doorbell that nobody answered for this long is rung again.
RING_AGAIN = 3.0
STUCK_SUBMITTING = 5.0
# Seconds by which the server's clock may run ahead of ours, or behind, between two looks. Less than a lease has to
# spare (its length but for one beat), more than a busy machine needs between two calls.
CLOCK_STEP = 2.0
# After its deadline a set has this long to say so itself.
OVERDUE = 30.0


def local_round(site: Site) -> list[str]:
    """What only this host can judge: its launchers, its requesters, the requests that wait for it.

    Returns:
        What is wrong with sets that cannot be judged; the others are judged all the same.
    """
    records, unreadable = site.store.sets.readable()
    complaints = [str(error) for error in unreadable]
    for record in records:
        complaints += _complaints_of(_judge_here, site, record)
    return complaints


def reconcile_set(site: Site, record: ResourceSetRecord) -> str:
    """Look at one set now, as the operation ``reconcile`` asks.

    Returns:
        What the set is afterwards.
    """
    _judge_here(site, record)
    now = site.store.sets.get(record.wgroup_id)
    return f"reconciled: the set is {now.state if now else 'gone'}"


def _complaints_of(step: Callable[[Site, ResourceSetRecord], None], site: Site, record: ResourceSetRecord) -> list[str]:
    """Take a step for one set: garbage in its keys must not hold up the others."""
    try:
        step(site, record)
    except StoreUnavailableError:
        raise
    except GutscoreError as error:
        return [f"resource set {record.wgroup_id}: {error}"]
    return []


def _judge_here(site: Site, record: ResourceSetRecord) -> None:
    if record.state.ended or record.state is State.DESCRIBED:
        return
    _end_with_requester(site, record)
    in_allocation = site.allocation is not None and record.server == site.allocation.server
    if record.server in site.clusters or in_allocation:
        if not site.store.provisioners.is_locked(record.wgroup_id, site.host):
            _ring_again(site, record)
            if in_allocation:
                judge_step(site, record)
        return
    if record.server != site.host or record.type != "local":
        return
    for launcher in dead_launchers(site, record):
        why = f"its launcher (pid {launcher.identity.pid} on {launcher.node}) died"
        if launcher.identity.boot_id != boot_id():
            why = f"its host {launcher.node} was booted again"
        log.warning("resource set %d: %s", record.wgroup_id, why)
        bury_launcher(site, record, launcher, why)
        site.store.sets.note(record.wgroup_id, error=why)
    if not site.store.provisioners.is_locked(record.wgroup_id, site.host):
        _push_on(site, record)


def _end_with_requester(site: Site, record: ResourceSetRecord) -> None:
    requester = record.requester
    if (
        record.daemonize
        or requester is None
        or record.state is State.RELEASING
        or not is_here(requester, site.host)
        or is_alive(requester)
    ):
        return
    changed = site.store.sets.transition(
        record, State.RELEASING, "the requester's process ended (daemonize = false)", attempts=0, next_try_at=0
    )
    if changed is not None:
        ring(site.store, site.access, "release", changed)


def _push_on(site: Site, seen: ResourceSetRecord) -> None:
    """Move on a set at which no operation works but should."""
    store = site.store
    record = store.sets.get(seen.wgroup_id)
    if record is None or (record.generation, record.version) != (seen.generation, seen.version):
        return
    waited = store.time() - max(record.changed_at, record.next_try_at)
    launched = store.sets.launchers(record.wgroup_id)
    if record.state in (State.REQUESTED, State.RELEASING):
        _ring_again(site, record)
    elif record.state is State.SUBMITTING and not launched:
        if waited > STUCK_SUBMITTING and not is_marked_alive(site, record):
            relaunch(site, record, "its launch was interrupted")
    elif record.state in (State.STARTING, State.ACTIVE) and not launched and waited > 1.0:
        relaunch(site, record, record.error or "its launcher is gone")
    elif record.state is State.DRAINING and not launched and waited > 1.0:
        store.sets.transition(record, State.EXPIRED, "drained")


def _ring_again(site: Site, record: ResourceSetRecord) -> None:
    """Ring for a request or release that nobody carries out; a request that waited too long has failed."""
    store, now = site.store, site.store.time()
    if record.state is State.REQUESTED and now > record.expires_at:
        why = "request expired: it could not be carried out in time; request it again"
        store.sets.transition(record, State.FAILED, why, error=record.error or why)
    elif record.state in (State.REQUESTED, State.RELEASING):
        # A first ring comes from the requester; ours are for retries and for rings that were lost.
        patience = 0.0 if record.attempts or record.next_try_at or record.launches else RING_AGAIN
        waited = now - max(record.changed_at, record.next_try_at)
        if waited >= patience and not _is_ringing(site, record):
            ring(store, site.access, "request" if record.state is State.REQUESTED else "release", record)


def _is_ringing(site: Site, record: ResourceSetRecord) -> bool:
    key = site.store.rq_keys.queue(operations_queue(site.store.case, record.server))
    job_id = f"op-{site.store.case}-{record.wgroup_id}-{record.generation}-{record.version}-"
    waiting: Any = site.store.client.lrange(key, 0, 1000)
    return any(entry.startswith(job_id.encode()) for entry in waiting)


@dataclass(slots=True)
class Contact:
    """For how long this process has been in unbroken contact with one server whose clock runs as ours does.

    Whether a lease ended because nobody renewed it can be told only after a whole lease of such contact: after an
    outage of Redis, a pause of this host, or a step of the server's clock all leases look ended, or far from it.
    """

    run_id: str = ""
    since: float = field(default_factory=time.monotonic)
    newest: float = 0.0
    server_time: float = 0.0

    def lost(self) -> None:
        """Redis did not answer."""
        self.since = time.monotonic()

    def is_steady(self, site: Site) -> bool:
        """Look at the server, at least every few seconds: whether ended leases may be believed (rulings 7)."""
        run_id, server_time, now = site.store.run_id(), site.store.time(), time.monotonic()
        drift = (server_time - self.server_time) - (now - self.newest)
        if run_id != self.run_id or now - self.newest > LEASE_SECONDS / 2 or abs(drift) > CLOCK_STEP:
            self.run_id, self.since = run_id, now
        self.newest, self.server_time = now, server_time
        return now - self.since >= LEASE_SECONDS


@dataclass(slots=True)
class Reaper:
    """Removes workers whose lease is over and hands on their jobs; only in steady contact, see :class:`Contact`.

    Attributes:
        complaints: What was wrong, in the last round, with sets that could not be swept.
    """

    complaints: list[str] = field(default_factory=list)

    def round(self, site: Site) -> int:
        """One look at every set; how many workers were removed."""
        self._reap_provisioners(site)
        removed = 0
        self.complaints = []
        for wgroup_id in site.store.sets.ids():
            try:
                removed += self._reap(site, wgroup_id)
            except StoreUnavailableError:
                raise
            except GutscoreError as error:
                self.complaints.append(f"resource set {wgroup_id}: {error}")
        return removed

    @staticmethod
    def _reap_provisioners(site: Site) -> None:
        """Operations that a dead provisioner had taken go back: who carries them out again finds what is left to do."""
        store = site.store
        for member in store.provisioners.expired():
            name = store.provisioners.rq_name(member)
            recover_lost(store, name, reason="its provisioner was killed or cut off")
            servers = store.provisioners.served_by(member) or (host_of(member),)
            store.jobs.unregister_workers([name], [operations_queue(store.case, server) for server in servers])
            store.provisioners.leave(member)

    @staticmethod
    def _reap(site: Site, wgroup_id: int) -> int:
        store, reason = site.store, "its lease ended: host lost, cut off, or launcher stopped"
        removed, silent = 0, set()
        for worker in store.workers.expired(wgroup_id, limit=1000):
            # Jobs first: dying between the two steps must not strand them. A worker that comes back finds them fenced.
            jobs = recover_lost(store, worker.rq_name, reason=reason) if worker.rq_name else []
            gone = Departure(worker.member, worker.host, worker.pid, reason, ",".join(jobs))
            if store.workers.leave(wgroup_id, [gone], only_expired=True):
                removed += 1
                silent.add(worker.host)
        if silent:
            _note_silence(site, wgroup_id, ", ".join(sorted(silent)))
        return removed


def _note_silence(site: Site, wgroup_id: int, hosts: str) -> None:
    """Say at the set why it has lost workers; it stays what it is, since they may come back (``register.lua``)."""
    record = site.store.sets.get(wgroup_id)
    if record is not None and record.state in OPEN:
        error = (
            f"nothing is heard of {hosts}: off, cut off from Redis, or the launcher is stopped. Its workers count "
            "again once they are heard of; their jobs are run elsewhere"
        )
        site.store.sets.note(wgroup_id, error=error)


def global_round(site: Site, *, is_steady: bool) -> None:
    """What any provisioner can do, one of them at a time: overdue sets, due retries, old keys."""
    store = site.store
    queues: set[str] = set()
    records, _ = store.sets.readable()
    for record in records:
        queues.update(record.spec.get("queues", []))
        if is_steady:
            _complaints_of(_expire_overdue, site, record)
    if queues:
        move_due_jobs(sorted(queues), store.client)
    servers = {record.server for record in records}
    store.jobs.trim([*queues, *(operations_queue(store.case, server) for server in servers)], store.time())
    store.sets.trim()


def _expire_overdue(site: Site, record: ResourceSetRecord) -> None:
    overdue = record.state in OPEN and record.deadline and site.store.time() > record.deadline + OVERDUE
    if overdue and not site.store.workers.count(record.wgroup_id):
        why = "its runtime is over and nothing was heard of its host"
        site.store.sets.transition(record, State.EXPIRED, why)
