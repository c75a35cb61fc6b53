"""Resource sets in Redis: the shared queue, and the one gate through which their states change."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from secrets import token_hex
from typing import Any

import redis

from gutscore_rs.errors import GutscoreError, StateConflictError, StoreUnavailableError
from gutscore_rs.identity import ProcessIdentity
from gutscore_rs.store.connection import translated
from gutscore_rs.store.keys import CaseKeys
from gutscore_rs.store.records import (
    LauncherRecord,
    ResourceSetRecord,
    SlurmJob,
    State,
    decode_launcher,
    decode_resource_set,
    name_of,
    pack,
)
from gutscore_rs.store.scripts import Scripts

KEEP_ENDED = 7 * 86400
TOMBSTONE = 86400


@dataclass(frozen=True, slots=True)
class Attachment:
    """A launcher's success: the set as it stands, and the server's time of that moment."""

    record: ResourceSetRecord
    server_time: float


class ResourceSets:
    """States, launchers and locks of a case's resource sets."""

    def __init__(self, client: redis.Redis, scripts: Scripts, keys: CaseKeys, where: str) -> None:
        self._client = client
        self._scripts = scripts
        self._keys = keys
        self._where = where

    def ids(self) -> list[int]:
        """Ids of all known sets, oldest request first."""
        with translated(self._where):
            members: Any = self._client.zrange(self._keys.resource_sets, 0, -1)
        return [int(member) for member in members if member.isdigit()]

    def get(self, wgroup_id: int) -> ResourceSetRecord | None:
        """One set, or None when Redis does not know it."""
        with translated(self._keys.resource_set(wgroup_id)):
            raw: Any = self._client.hgetall(self._keys.resource_set(wgroup_id))
        return decode_resource_set(wgroup_id, raw, self._keys.resource_set(wgroup_id)) if raw else None

    def all(self) -> list[ResourceSetRecord]:
        """All sets whose hash still stands, in two round trips.

        Raises:
            SerializationError: One of them is garbage.
        """
        found, unreadable = self.readable()
        if unreadable:
            raise unreadable[0]
        return found

    def readable(self) -> tuple[list[ResourceSetRecord], list[GutscoreError]]:
        """As :meth:`all`, with what is wrong with the sets that cannot be read."""
        ids = self.ids()
        with translated(self._where):
            pipeline = self._client.pipeline(transaction=False)
            for wgroup_id in ids:
                pipeline.hgetall(self._keys.resource_set(wgroup_id))
            rows = pipeline.execute(raise_on_error=False)
        found, unreadable = [], []
        for wgroup_id, raw in zip(ids, rows, strict=True):
            try:
                record = self._decoded(wgroup_id, raw)
            except StoreUnavailableError:
                raise
            except GutscoreError as error:
                unreadable.append(error)
            else:
                found += [record] if record else []
        return found, unreadable

    def _decoded(self, wgroup_id: int, reply: Any) -> ResourceSetRecord | None:
        key = self._keys.resource_set(wgroup_id)
        if isinstance(reply, Exception):
            with translated(key):
                raise reply
        return decode_resource_set(wgroup_id, reply, key) if reply else None

    def request(
        self,
        wgroup_id: int,
        spec: Mapping[str, Any],
        *,
        server: str,
        requester: ProcessIdentity | None,
        timeout: float,
        seal: str = "",
    ) -> tuple[int, int]:
        """Put a described set into the shared queue.

        Args:
            wgroup_id: The set.
            spec: Its description; ``backend``, ``nworkers``, ``runtime`` and ``daemonize`` are also kept as fields.
            server: The host or cluster whose provisioner shall serve it.
            requester: The process whose end ends the set, or None.
            timeout: Seconds after which an unanswered request fails.
            seal: Signature of the description; without it no provisioner starts anything.

        Returns:
            Generation and version of the request.

        Raises:
            StateConflictError: The id is in use by a set that has not ended, or whose workers still live.
        """
        keys = self._keys
        fields: dict[str, str | bytes | int] = {
            "type": spec["backend"],
            "nworkers": spec["nworkers"],
            "runtime": spec["runtime"],
            "daemonize": int(bool(spec.get("daemonize"))),
            ("cluster" if spec["backend"] == "slurm" else "host"): server,
            "requester": pack(requester.to_dict()) if requester else b"",
            "spec": pack(dict(spec)),
            "seal": seal,
            "token": "",
        }
        flat: list[Any] = [part for pair in fields.items() for part in pair]
        reply = self._scripts.run(
            "request",
            [
                keys.resource_set(wgroup_id),
                keys.resource_sets,
                keys.live(wgroup_id),
                keys.workers(wgroup_id),
                keys.states(wgroup_id),
                keys.launchers(wgroup_id),
                keys.tombstone(wgroup_id),
                keys.events,
            ],
            [wgroup_id, timeout, token_hex(8), *flat],
        )
        if reply[0] == b"busy":
            raise StateConflictError(
                f"Resource set {wgroup_id} of case {keys.case!r} is {reply[1].decode()}; release it before you "
                "request it again, or take another id."
            )
        if reply[0] == b"live":
            raise StateConflictError(
                f"Resource set {wgroup_id} of case {keys.case!r} still has {reply[1]} living workers of an earlier "
                "request; wait for their leases to end, or take another id."
            )
        return int(reply[1]), int(reply[2])

    def transition(
        self,
        record: ResourceSetRecord,
        to: State,
        why: str,
        *,
        expected: Collection[State] | None = None,
        check_version: bool = True,
        **fields: str | float,
    ) -> ResourceSetRecord | None:
        """Compare and set a state.

        Args:
            record: The set as the caller last saw it; its generation must still hold.
            to: The new state.
            why: The reason, for events and people.
            expected: States it may be in; by default the one of ``record``.
            check_version: Whether it must be unchanged since ``record`` was read.
            fields: Further fields to set at the same moment.

        Returns:
            The set after the change; None when it had changed meanwhile and nothing was done.
        """
        wgroup_id = record.wgroup_id
        states = ",".join(state.value for state in (expected or [record.state]))
        flat: list[Any] = [part for pair in fields.items() for part in pair]
        reply = self._scripts.run(
            "transition",
            [
                self._keys.resource_set(wgroup_id),
                self._keys.events,
                self._keys.live(wgroup_id),
                self._keys.workers(wgroup_id),
                self._keys.states(wgroup_id),
                self._keys.launchers(wgroup_id),
            ],
            [
                wgroup_id,
                states,
                record.generation,
                record.version if check_version else "",
                to.value,
                why,
                KEEP_ENDED,
                token_hex(8),
                *flat,
            ],
        )
        return self.get(wgroup_id) if reply[0] == b"ok" else None

    def note(self, wgroup_id: int, **fields: str | float) -> None:
        """Set fields that are no state (pending reason, next try) of a set that exists."""
        with translated(self._where):
            if self._client.exists(self._keys.resource_set(wgroup_id)):
                self._client.hset(self._keys.resource_set(wgroup_id), mapping=dict[Any, Any](fields))

    def attach(
        self,
        wgroup_id: int,
        *,
        generation: int,
        token: str,
        node: str,
        nonce: str,
        identity: ProcessIdentity,
        job: SlurmJob | None = None,
    ) -> Attachment | str:
        """A launcher's first act: win the node for this launch.

        Args:
            wgroup_id: Its set.
            generation: The request that it serves.
            token: Names the launch, or the submission of the Slurm job; the record that comes back names the launch.
            node: The host.
            nonce: Tells two launchers of one launch apart.
            identity: The launcher process.
            job: The Slurm job it runs in.

        Returns:
            The set, or the reason why this launcher must go.
        """
        keys = self._keys
        key = keys.resource_set(wgroup_id)
        end = f"{job.end:.6f}" if job and job.end else ""
        reply = self._scripts.run(
            "attach",
            [key, keys.launchers(wgroup_id), keys.events, keys.live(wgroup_id)],
            [
                wgroup_id,
                generation,
                token,
                node,
                nonce,
                pack(identity.to_dict()),
                job.name if job else "",
                job.restarts if job else 0,
                end,
            ],
        )
        if reply[0] == b"no":
            return str(reply[1].decode())
        raw = dict(zip(reply[2::2], reply[3::2], strict=True))
        return Attachment(decode_resource_set(wgroup_id, raw, key), float(reply[1]))

    def detach(self, wgroup_id: int, *, generation: int, node: str, owner: str, final: State | None, why: str) -> bool:
        """A launcher's last act; see ``detach.lua``. False when a newer launcher holds the node."""
        reply = self._scripts.run(
            "detach",
            [
                self._keys.resource_set(wgroup_id),
                self._keys.launchers(wgroup_id),
                self._keys.events,
                self._keys.live(wgroup_id),
                self._keys.workers(wgroup_id),
                self._keys.states(wgroup_id),
            ],
            [wgroup_id, generation, node, owner, final.value if final else "", why, KEEP_ENDED],
        )
        return bool(reply == b"ok")

    def detach_all(self, record: ResourceSetRecord, why: str) -> None:
        """Take the places of all launchers away; those that live hear of it at their next beat, and end."""
        for launcher in self.launchers(record.wgroup_id):
            self.detach(
                record.wgroup_id,
                generation=record.generation,
                node=launcher.node,
                owner=launcher.owner,
                final=None,
                why=why,
            )

    def restore(
        self,
        record: ResourceSetRecord,
        *,
        node: str,
        owner: str,
        identity: ProcessIdentity,
        fields: Mapping[str, str | bytes],
    ) -> str:
        """Bring back a set that Redis lost; ``ok``, ``forgotten`` or ``fenced`` (rulings 23)."""
        wgroup_id, keys = record.wgroup_id, self._keys
        flat: list[Any] = [part for pair in fields.items() for part in pair]
        reply = self._scripts.run(
            "restore",
            [
                keys.resource_set(wgroup_id),
                keys.resource_sets,
                keys.tombstone(wgroup_id),
                keys.launchers(wgroup_id),
                keys.events,
            ],
            [wgroup_id, record.generation, node, owner, pack(identity.to_dict()), f"{record.requested_at:.6f}", *flat],
        )
        return str(reply.decode())

    def launchers(self, wgroup_id: int) -> list[LauncherRecord]:
        """The launchers that hold a node of the set."""
        with translated(self._keys.launchers(wgroup_id)):
            raw: Any = self._client.hgetall(self._keys.launchers(wgroup_id))
        return [decode_launcher(name_of(node), value) for node, value in raw.items()]

    def forget(self, wgroup_id: int) -> None:
        """Remove an ended set for good; a tombstone keeps a late launcher from bringing it back.

        Raises:
            StateConflictError: It has living workers, or has not ended.
        """
        keys = self._keys
        reply = self._scripts.run(
            "forget",
            [
                keys.resource_set(wgroup_id),
                keys.resource_sets,
                keys.live(wgroup_id),
                keys.workers(wgroup_id),
                keys.states(wgroup_id),
                keys.launchers(wgroup_id),
                keys.lock(wgroup_id),
                keys.tombstone(wgroup_id),
            ],
            [wgroup_id, TOMBSTONE],
        )
        if reply[0] == b"no":
            raise StateConflictError(
                f"Resource set {wgroup_id} of case {keys.case!r} is {reply[1].decode()} with {reply[2]} living "
                "workers; release it before it is forgotten."
            )

    def trim(self) -> None:
        """Drop the ids and leftovers of sets whose hash has ended its days."""
        for wgroup_id in self.ids():
            with translated(self._where):
                if not self._client.exists(self._keys.resource_set(wgroup_id)):
                    pipeline = self._client.pipeline()
                    pipeline.zrem(self._keys.resource_sets, wgroup_id)
                    pipeline.delete(
                        self._keys.workers(wgroup_id), self._keys.states(wgroup_id), self._keys.launchers(wgroup_id)
                    )
                    pipeline.execute()
