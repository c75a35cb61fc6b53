"""The requester's side: put sets into the queue, wait, release, always naming what is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gutscore_rs.access import Access
from gutscore_rs.capacity import check_room
from gutscore_rs.errors import NoProvisionerError, ReleaseError, RequestError
from gutscore_rs.identity import ProcessIdentity
from gutscore_rs.operations.doorbell import ring
from gutscore_rs.signature import sign_description
from gutscore_rs.store import Store, cluster_server, task_queue
from gutscore_rs.store.keys import CLUSTER_PREFIX
from gutscore_rs.store.records import OPEN, ResourceSetRecord, State
from gutscore_rs.store.workers import BEAT_SECONDS

# How long a release may be left to a provisioner before the requester, seeing all gone, books it itself.
SELF_SERVICE_AFTER = 2.0


class OperationsClient:
    """Requests, counts and releases the resource sets of one case.

    Args:
        store: The case's store.
        access: Its access, for signing.
        host: This host's name: local sets that name no host are started here.
        requester: The process whose end ends sets with ``daemonize = false``; None: they last until released.
        queues: Short names of the task queues that workers serve.
    """

    def __init__(
        self,
        store: Store,
        access: Access,
        host: str,
        *,
        requester: ProcessIdentity | None = None,
        queues: tuple[str, ...] = ("tasks",),
    ) -> None:
        self.store = store
        self._access = access
        self._host = host
        self._requester = requester
        self._queues = queues

    @property
    def case(self) -> str:
        return self.store.case

    def server_of(self, spec: Mapping[str, Any]) -> str:
        """The host or cluster that must serve a description.

        Raises:
            NoProvisionerError: It names no cluster, and no provisioner serves one.
            RequestError: It names no cluster, and several are served, none of them from this host.
        """
        if spec["backend"] != "slurm":
            return str(spec.get("host") or self._host)
        return cluster_server(str(spec["cluster"])) if spec.get("cluster") else self._default_cluster()

    def _default_cluster(self) -> str:
        """This host's own cluster, else the only one that is served."""
        served = [
            (record.host, name)
            for record in self.store.provisioners.alive()
            for name in record.serves
            if name.startswith(CLUSTER_PREFIX) and name != record.host
        ]
        own = [name for host, name in served if host == self._host]
        names = sorted({name.removeprefix(CLUSTER_PREFIX) for _, name in served})
        if own or len(names) == 1:
            return own[0] if own else cluster_server(names[0])
        if names:
            raise RequestError(
                f"Case {self.case!r} has provisioners for several Slurm clusters ({', '.join(names)}); say which one: "
                'cluster = "..." in [resource.config].'
            )
        raise NoProvisionerError(
            f"No live provisioner of case {self.case!r} can submit to Slurm. Start one on a host that has sbatch on "
            f"its PATH and reaches the controller: `gutscore-rs provisioner {self.case}`, or `gutscore-rs up`."
        )

    def request(self, wgroup_id: int, spec: Mapping[str, Any], *, timeout: float = 600.0) -> int:
        """Ask for a set's workers; returns at once.

        Returns:
            The request's generation.

        Raises:
            NoProvisionerError: Nobody serves that host or cluster; nothing was written.
            CapacityError: This host cannot hold so many workers; nothing was written. Another host judges for itself.
            StateConflictError: The id is in use.
        """
        server = self.server_of(spec)
        if not self.store.provisioners.serving(server):
            alive = ", ".join(sorted({name for record in self.store.provisioners.alive() for name in record.serves}))
            raise NoProvisionerError(
                f"No live provisioner of case {self.case!r} serves {server!r} (served now: {alive or 'nothing'}). "
                f"Start one there with `gutscore-rs provisioner {self.case}`, or all with `gutscore-rs up`."
            )
        if server == self._host:
            check_room(
                f"Resource set {wgroup_id} of case {self.case!r}",
                spec["nworkers"],
                oversubscribe=bool(spec.get("oversubscribe")),
            )
        queues = [task_queue(self.case, name) for name in self._queues]
        full = dict(spec) | {"queues": spec.get("queues") or queues, "cwd": spec.get("cwd") or str(Path.cwd())}
        requester = None if spec.get("daemonize") else self._requester
        seal = sign_description(self._access, wgroup_id, server, full)
        generation, _ = self.store.sets.request(
            wgroup_id, full, server=server, requester=requester, timeout=timeout, seal=seal
        )
        record = self.store.sets.get(wgroup_id)
        if record is not None and record.state is State.REQUESTED:
            ring(self.store, self._access, "request", record)
        return generation

    def reconcile(self, wgroup_id: int) -> bool:
        """Have the provisioner that serves a set compare it with what is, now and not at its next round.

        Returns:
            False when Redis does not know the set.
        """
        record = self.store.sets.get(wgroup_id)
        if record is not None:
            ring(self.store, self._access, "reconcile", record)
        return record is not None

    def count(self, wgroup_id: int) -> int:
        """Workers of the set that are alive now."""
        return self.store.workers.count(wgroup_id)

    def begin_release(self, wgroup_id: int, why: str = "released by its user") -> ResourceSetRecord | None:
        """Start the release of a set without waiting; None when there is nothing to release."""
        record = self.store.sets.get(wgroup_id)
        if record is None or record.state.ended or record.state is State.DESCRIBED:
            return None
        changed = self.store.sets.transition(
            record,
            State.RELEASING,
            why,
            expected=OPEN - {State.RELEASING},
            check_version=False,
            attempts=0,
            next_try_at=0,
        )
        if changed is not None:
            ring(self.store, self._access, "release", changed)
        return changed or self.store.sets.get(wgroup_id)

    def release(self, wgroup_id: int, timeout: float = 60.0, *, progress: Callable[[], None] | None = None) -> None:
        """End a set's workers, and come back when the operating system or scheduler says that they are gone.

        Raises:
            ReleaseError: Something is left after ``timeout`` seconds; it is named, and reconcile goes on with it.
        """
        if self.begin_release(wgroup_id) is None:
            return
        began, pause = time.monotonic(), 0.01
        while not self.is_released(wgroup_id, patience=time.monotonic() - began):
            if time.monotonic() - began > timeout:
                raise ReleaseError(self._survivors(wgroup_id, timeout))
            if progress:
                progress()
            time.sleep(pause)
            pause = min(pause * 1.5, 0.2)

    def is_released(self, wgroup_id: int, *, patience: float = 0.0) -> bool:
        """Whether a set has ended; after a while the last step is taken here if nobody else is there to take it."""
        record = self.store.sets.get(wgroup_id)
        if record is None or record.state is not State.RELEASING:
            return record is None or record.state.ended
        # That a Slurm job is gone only its cluster can say.
        own = record.type != "slurm" or not record.token
        if own and patience > SELF_SERVICE_AFTER and not self.store.provisioners.serving(record.server):
            return finish_release(self.store, record)
        return False

    def _survivors(self, wgroup_id: int, timeout: float) -> str:
        workers = self.store.workers.alive([wgroup_id])
        launchers = self.store.sets.launchers(wgroup_id)
        named = [f"worker pid {worker.pid} on {worker.host}" for worker in workers]
        named += [f"launcher pid {launcher.identity.pid} on {launcher.node}" for launcher in launchers]
        record = self.store.sets.get(wgroup_id)
        error = f" Last error: {record.error}." if record and record.error else ""
        if record is not None and record.slurm_job:
            named.append(f"Slurm job {record.slurm_job} ({record.server.removeprefix(CLUSTER_PREFIX)})")
        if record is not None and not self.store.provisioners.serving(record.server):
            error += f" No provisioner serves {record.server} now."
        return (
            f"Resource set {wgroup_id} of case {self.case!r} is not released after {timeout:.0f} s; left: "
            f"{', '.join(named) or 'no worker, but no word from its host either'}.{error} Launchers that live end "
            f"within {BEAT_SECONDS:.0f} s of reaching Redis; see `gutscore-rs status {self.case}`."
        )


def finish_release(store: Store, record: ResourceSetRecord) -> bool:
    """Book a set as released if no lease is valid and every launcher has signed off."""
    if store.workers.count(record.wgroup_id) or store.sets.launchers(record.wgroup_id):
        return False
    store.sets.transition(
        record, State.RELEASED, "all its workers are gone", expected=[State.RELEASING], check_version=False
    )
    return True
