"""The worker registry: who is alive, by leases that the server's clock judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import redis

from gutscore_rs.errors import SerializationError
from gutscore_rs.store.connection import translated
from gutscore_rs.store.keys import CaseKeys, RqKeys
from gutscore_rs.store.records import WorkerRecord, decode_worker, encode_worker, name_of, raw_name
from gutscore_rs.store.scripts import Scripts

# A lost host leaves the count after LEASE seconds, its jobs are handed on at most 3 s later: 15 s in all
# (rulings 21). Two beats may be lost without harm.
LEASE_SECONDS = 12.0
BEAT_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Departure:
    """A worker that is gone, and why; an empty reason means that it left in order."""

    member: str
    host: str
    pid: int
    reason: str
    job: str = ""


def host_of(member: str) -> str:
    """The host in a member's name."""
    return member.split("/", 1)[0]


class WorkerRegistry:
    """Leases and records of a case's workers."""

    def __init__(self, client: redis.Redis, scripts: Scripts, keys: CaseKeys, rq: RqKeys, where: str) -> None:
        self._client = client
        self._scripts = scripts
        self._keys = keys
        self._rq = rq
        self._where = where

    def register(self, wgroup_id: int, generation: int, node: str, owner: str, workers: Iterable[WorkerRecord]) -> str:
        """Register workers and start their leases.

        Returns:
            The order for the launcher: ``ok``, ``drain``, ``release``, ``fenced`` or ``vanished``.
        """
        keys = self._keys
        flat: list[Any] = []
        for worker in workers:
            flat += [worker.member, encode_worker(worker)]
        reply = self._scripts.run(
            "register",
            [
                keys.resource_set(wgroup_id),
                keys.live(wgroup_id),
                keys.workers(wgroup_id),
                keys.launchers(wgroup_id),
                keys.events,
            ],
            [wgroup_id, generation, node, owner, LEASE_SECONDS, *flat],
        )
        return str(reply.decode())

    def beat(
        self, wgroup_id: int, generation: int, node: str, owner: str, members: Sequence[str]
    ) -> tuple[str, float, list[str]]:
        """Renew the leases of a launcher's workers in one call.

        Returns:
            The order (see :meth:`register`), the set's deadline (0.0: none), and the members that Redis had lost.
        """
        keys = self._keys
        reply = self._scripts.run(
            "beat",
            [keys.resource_set(wgroup_id), keys.live(wgroup_id), keys.launchers(wgroup_id)],
            [generation, node, owner, LEASE_SECONDS, *members],
        )
        return reply[0].decode(), float(reply[1] or 0), [name_of(member) for member in reply[2:]]

    def leave(
        self, wgroup_id: int, departures: Iterable[Departure], *, only_expired: bool = False, keep_records: bool = False
    ) -> int:
        """Deregister workers at once.

        Args:
            wgroup_id: Their set.
            departures: Who they are.
            only_expired: Those whose lease is valid again stay.
            keep_records: They count no more, but their records stay, until their jobs are handed on.

        Returns:
            How many were removed.
        """
        flat: list[Any] = []
        for gone in departures:
            flat += [gone.member, gone.host, gone.pid, gone.reason, gone.job]
        if not flat:
            return 0
        keys = self._keys
        return int(
            self._scripts.run(
                "leave",
                [keys.live(wgroup_id), keys.workers(wgroup_id), keys.states(wgroup_id), keys.lost],
                [wgroup_id, LEASE_SECONDS if only_expired else "keep" if keep_records else "", *flat],
            )
        )

    def set_states(self, wgroup_id: int, states: dict[str, str]) -> None:
        """Note workers as ``stopped`` or ``hung``; ``alive`` removes the note."""
        with translated(self._where):
            pipeline = self._client.pipeline()
            for member, state in states.items():
                if state == "alive":
                    pipeline.hdel(self._keys.states(wgroup_id), member)
                else:
                    pipeline.hset(self._keys.states(wgroup_id), member, state)
            pipeline.execute()

    def count(self, wgroup_id: int) -> int:
        """Workers of a set that are alive now."""
        return self.counts([wgroup_id])[wgroup_id]

    def counts(self, ids: Sequence[int]) -> dict[int, int]:
        """Workers alive now, for several sets, in one call."""
        if not ids:
            return {}
        reply = self._scripts.run("count", [self._keys.live(wgroup_id) for wgroup_id in ids], [LEASE_SECONDS])
        return dict(zip(ids, map(int, reply), strict=True))

    def live_members(self, ids: Sequence[int]) -> dict[int, list[str]]:
        """Names of the workers alive now."""
        if not ids:
            return {}
        reply = self._scripts.run("live", [self._keys.live(wgroup_id) for wgroup_id in ids], [LEASE_SECONDS])
        return {
            wgroup_id: [name_of(member) for member in members] for wgroup_id, members in zip(ids, reply, strict=True)
        }

    def counts_by_host(self, ids: Sequence[int]) -> dict[str, int]:
        """Workers alive now, by host."""
        counter: Counter[str] = Counter()
        for members in self.live_members(ids).values():
            counter.update(map(host_of, members))
        return dict(sorted(counter.items()))

    def alive(self, ids: Sequence[int]) -> list[WorkerRecord]:
        """The records of the workers alive now, with their state and the job they run.

        A worker whose record is garbage is listed with what its name tells.
        """
        live = self.live_members(ids)
        with translated(self._where):
            pipeline = self._client.pipeline(transaction=False)
            for wgroup_id, members in live.items():
                if members:
                    fields: Any = list(map(raw_name, members))
                    pipeline.hmget(self._keys.workers(wgroup_id), fields)
                    pipeline.hmget(self._keys.states(wgroup_id), fields)
            replies = iter(pipeline.execute())
        found = []
        for wgroup_id, members in live.items():
            if not members:
                continue
            for member, packed, state in zip(members, next(replies), next(replies), strict=True):
                found.append(_decode_or_guess(member, wgroup_id, packed, name_of(state or b"alive")))
        return self._with_jobs(found)

    def expired(self, wgroup_id: int, limit: int = 1000) -> list[WorkerRecord]:
        """Workers whose lease is over and who were not deregistered: their host is lost, or cut off."""
        reply = self._scripts.run(
            "expired", [self._keys.live(wgroup_id), self._keys.workers(wgroup_id)], [limit, LEASE_SECONDS]
        )
        return [
            _decode_or_guess(name_of(member), wgroup_id, packed)
            for member, packed in zip(reply[::2], reply[1::2], strict=True)
        ]

    def registered(self, wgroup_id: int, node: str) -> list[WorkerRecord]:
        """Everybody that a node's launchers registered and nobody deregistered, whatever their lease."""
        with translated(self._where):
            raw: Any = self._client.hgetall(self._keys.workers(wgroup_id))
        workers = [_decode_or_guess(name_of(member), wgroup_id, packed) for member, packed in raw.items()]
        return [worker for worker in workers if worker.host == node]

    def _with_jobs(self, workers: list[WorkerRecord]) -> list[WorkerRecord]:
        with translated(self._where):
            pipeline = self._client.pipeline(transaction=False)
            for worker in workers:
                pipeline.smembers(self._rq.worker_executions(worker.rq_name))
            claims = pipeline.execute()
        out = []
        for worker, executions in zip(workers, claims, strict=True):
            job = name_of(min(executions)).rpartition(":")[0] if executions else None
            out.append(replace(worker, job=job))
        return out


def _decode_or_guess(member: str, wgroup_id: int, packed: bytes | None, state: str = "alive") -> WorkerRecord:
    try:
        return decode_worker(member, wgroup_id, packed or b"", state=state)
    except SerializationError:
        parts = (member.split("/") + [""] * 7)[:7]
        numbers = [int(part) if part.isascii() and part.isdigit() else 0 for part in parts[2:5]]
        return WorkerRecord(
            member=member,
            resource_set=wgroup_id,
            index=numbers[0],
            host=parts[0],
            pid=numbers[1],
            start_ticks=numbers[2],
            boot_id=parts[5],
            started_at=0.0,
            rq_name="",
            state=state,
        )
