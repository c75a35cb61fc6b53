"""The launcher's word to Redis: registration, one beat for all workers, orders that come back."""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Callable, Iterable

from gutscore_rs.errors import StoreError
from gutscore_rs.store import Store
from gutscore_rs.store.jobs import rq_time
from gutscore_rs.store.records import State, WorkerRecord, encode_resource_set
from gutscore_rs.store.workers import BEAT_SECONDS, LEASE_SECONDS, Departure
from gutscore_rs_workers.children import Child
from gutscore_rs_workers.launch import Launch
from gutscore_rs_workers.shared_memory import SharedMemory
from gutscore_rs_workers.worker import REGISTERED

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5
RQ_BEAT_SECONDS = 60.0


class LeaseKeeper:
    """Keeps the leases of one launch.

    Args:
        launch: The launch.
        store: A store of the launcher.
        memory: Where the workers read until when they may claim.

    Attributes:
        deadline: Monotonic second at which the set's runtime ends, as Redis said last.
    """

    def __init__(self, launch: Launch, store: Store, memory: SharedMemory) -> None:
        self._launch = launch
        self._store = store
        self._memory = memory
        self.deadline = launch.deadline
        memory.set_work_end(self.deadline)
        self._next_beat = 0.0
        self._next_rq_beat = time.monotonic() + RQ_BEAT_SECONDS
        self._farewells: list[Departure] = []
        self._rq_farewells: list[str] = []
        self._settled: list[Departure] = []
        self._states: dict[str, str] = {}

    @property
    def next_beat(self) -> float:
        """Monotonic second of the next call."""
        return self._next_beat

    def due(self) -> bool:
        """Whether it is time to beat."""
        return time.monotonic() >= self._next_beat

    def hurry(self) -> None:
        """Beat at the next opportunity."""
        self._next_beat = 0.0

    def register(self, children: Iterable[Child]) -> str:
        """Register workers that are ready; the order that came back, or ``unreachable``."""
        children = list(children)
        if not children:
            return "ok"
        launch = self._launch
        before = time.monotonic()
        try:
            order = self._store.workers.register(
                launch.wgroup_id,
                launch.generation,
                launch.node,
                launch.owner,
                [self._record(child) for child in children],
            )
        except StoreError as error:
            log.warning("cannot register workers: %s", error)
            self._next_beat = min(self._next_beat, time.monotonic() + RETRY_SECONDS)
            return "unreachable"
        if order in ("ok", "drain"):
            for child in children:
                child.registered = True
                child.send(REGISTERED)
            self._memory.set_lease_end(before + LEASE_SECONDS)
            self._register_at_rq(children)
        return order

    def _record(self, child: Child) -> WorkerRecord:
        launch = self._launch
        return WorkerRecord(
            member=child.member,
            resource_set=launch.wgroup_id,
            index=child.index,
            host=launch.node,
            pid=child.pid,
            start_ticks=child.start_ticks,
            boot_id=launch.identity.boot_id,
            started_at=child.started_at,
            rq_name=child.rq_name,
            slurm=launch.place.ids() if launch.place else {},
        )

    def _register_at_rq(self, children: Iterable[Child]) -> None:
        fields = {
            child.rq_name: {
                "birth": rq_time(),
                "pid": child.pid,
                "hostname": self._launch.node,
                "ip_address": "unknown",
                "version": "gutscore_rs",
                "python_version": platform.python_version(),
                "state": "idle",
            }
            for child in children
        }
        try:
            self._store.jobs.register_workers(fields, self._launch.queues)
        except StoreError as error:
            # Only RQ's lists lack them until the next RQ beat; our count does not depend on it.
            log.warning("cannot register workers with RQ: %s", error)

    def beat(self, children: list[Child]) -> str:
        """Renew all leases; ``ok``, ``drain``, ``release``, ``fenced``, ``vanished`` or ``unreachable``."""
        launch = self._launch
        registered = {child.member: child for child in children if child.registered}
        before = time.monotonic()
        try:
            self._say_farewell()
            self._tell_states()
            order, deadline, missing = self._store.workers.beat(
                launch.wgroup_id, launch.generation, launch.node, launch.owner, list(registered)
            )
        except StoreError as error:
            log.warning("no beat: %s", error)
            self._next_beat = time.monotonic() + RETRY_SECONDS
            return "unreachable"
        self._next_beat = before + BEAT_SECONDS
        # A scheduler's limit may be moved while the job runs (scontrol update TimeLimit).
        self.deadline = launch.monotonic(deadline) if deadline else self.deadline
        self._memory.set_work_end(self.deadline)
        if order in ("ok", "drain"):
            if missing:
                log.warning("Redis had lost %d workers; they are registered again", len(missing))
                order = self.register(registered[member] for member in missing)
            else:
                self._memory.set_lease_end(before + LEASE_SECONDS)
        return order

    def restore(self, children: list[Child]) -> str:
        """Redis lost the set: bring it back, then its workers. The order that follows."""
        launch = self._launch
        # It is active again once all workers are registered; its start is known to a few milliseconds.
        fields = dict(encode_resource_set(launch.record)) | {
            "state": State.STARTING.value,
            "started_at": f"{launch.server_time:.6f}",
        }
        try:
            outcome = self._store.sets.restore(
                launch.record, node=launch.node, owner=launch.owner, identity=launch.identity, fields=fields
            )
        except StoreError as error:
            log.warning("cannot restore the set: %s", error)
            return "unreachable"
        log.warning("Redis had lost %s: restore says %s", launch.label, outcome)
        if outcome != "ok":
            return "release" if outcome == "forgotten" else "fenced"
        return self.register([child for child in children if child.ready])

    def beat_rq(self, endless: Callable[[], dict[str, tuple[str, str, str] | None]], children: list[Child]) -> None:
        """Now and then: keep RQ's own lists true."""
        if time.monotonic() < self._next_rq_beat:
            return
        self._next_rq_beat = time.monotonic() + RQ_BEAT_SECONDS
        try:
            lost = set(self._store.jobs.beat_workers(endless()))
            self._register_at_rq([child for child in children if child.rq_name in lost])
        except StoreError as error:
            log.warning("no beat for RQ: %s", error)

    def held(self, rq_name: str) -> tuple[str, str, str] | None:
        """The claim that a worker holds."""
        claims = self._store.jobs.held_by(rq_name)
        return claims[0] if claims else None

    def note_states(self, changed: dict[str, str]) -> None:
        """Tell who is stopped, hung, or alive again, now or as soon as Redis answers."""
        self._states |= changed
        try:
            self._tell_states()
        except StoreError as error:
            log.warning("cannot note the workers' states: %s", error)

    def _tell_states(self) -> None:
        if self._states:
            self._store.workers.set_states(self._launch.wgroup_id, self._states)
            self._states.clear()

    def farewell(self, child: Child, reason: str) -> None:
        """Take a dead worker out of the count, at the latest when Redis answers; no reason: it left in order.

        Its record stays until :meth:`settle`: should this launcher die first, others find its jobs.
        """
        if child.registered:
            self._states.pop(child.member, None)
            self._farewells.append(Departure(child.member, self._launch.node, child.pid, reason))
            self._rq_farewells.append(child.rq_name)
        self._try_farewell()

    def settle(self, member: str) -> None:
        """Forget a dead worker: it holds no job any more."""
        self._settled.append(Departure(member, self._launch.node, 0, ""))
        self._try_farewell()

    def _try_farewell(self) -> None:
        try:
            self._say_farewell()
        except StoreError as error:
            log.warning("cannot deregister workers: %s", error)
            self._next_beat = min(self._next_beat, time.monotonic() + RETRY_SECONDS)

    def _say_farewell(self) -> None:
        if self._farewells:
            self._store.workers.leave(self._launch.wgroup_id, self._farewells, keep_records=True)
            self._farewells.clear()
        if self._settled:
            self._store.workers.leave(self._launch.wgroup_id, self._settled)
            self._settled.clear()
        if self._rq_farewells:
            self._store.jobs.unregister_workers(self._rq_farewells, self._launch.queues)
            self._rq_farewells.clear()

    def detach(self, final: State | None, why: str) -> bool:
        """The last act; False while Redis does not answer."""
        launch = self._launch
        try:
            self._say_farewell()
            self._store.sets.detach(
                launch.wgroup_id,
                generation=launch.generation,
                node=launch.node,
                owner=launch.owner,
                final=final,
                why=why,
            )
        except StoreError as error:
            log.warning("cannot sign off: %s", error)
            return False
        return True
