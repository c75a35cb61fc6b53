"""Provisioners in Redis, the duties that they share by leases, and nonces that are burnt once."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import redis

from gutscore_rs.errors import SerializationError
from gutscore_rs.identity import ProcessIdentity, is_alive, is_here
from gutscore_rs.store.connection import translated
from gutscore_rs.store.keys import CaseKeys
from gutscore_rs.store.records import ProvisionerRecord, decode_provisioner, name_of, pack, raw_name
from gutscore_rs.store.scripts import Scripts

PROVISIONER_LEASE = 12.0
PROVISIONER_BEAT = 3.0


def lock_owner(process: ProcessIdentity) -> str:
    """The text that stands in a lock: whoever is on that host sees whether its owner still lives."""
    return json.dumps(process.to_dict(), sort_keys=True)


def _owner_of(lock: bytes | None) -> ProcessIdentity | None:
    try:
        return ProcessIdentity.from_dict(json.loads(lock)) if lock else None
    except (ValueError, TypeError, SerializationError):
        return None


class Provisioners:
    """Who can carry out operations, and who does the periodic work."""

    def __init__(self, client: redis.Redis, scripts: Scripts, keys: CaseKeys, where: str) -> None:
        self._client = client
        self._scripts = scripts
        self._keys = keys
        self._where = where

    def beat(self, record: ProvisionerRecord) -> None:
        """Register, or renew the lease."""
        info = {
            "host": record.host,
            "pid": record.pid,
            "serves": list(record.serves),
            "started_at": record.started_at,
            "version": record.version,
        }
        self._scripts.run(
            "provisioner_beat",
            [self._keys.provisioners, self._keys.provisioner_info],
            [record.member, PROVISIONER_LEASE, pack(info)],
        )

    def leave(self, member: str) -> None:
        """Deregister at a clean end."""
        with translated(self._where):
            pipeline = self._client.pipeline()
            pipeline.zrem(self._keys.provisioners, member)
            pipeline.hdel(self._keys.provisioner_info, member)
            pipeline.execute()

    def alive(self) -> list[ProvisionerRecord]:
        """Provisioners with a valid lease."""
        members = self._scripts.run("live", [self._keys.provisioners], [PROVISIONER_LEASE])[0]
        if not members:
            return []
        with translated(self._where):
            rows: Any = self._client.hmget(self._keys.provisioner_info, members)
        found = []
        for member, packed in zip(members, rows, strict=True):
            # One that cannot be read (of another version, damaged) must not hide the others.
            with suppress(SerializationError):
                found.append(decode_provisioner(name_of(member), packed or b""))
        return found

    def expired(self) -> list[str]:
        """Members whose lease is over and who did not deregister: they were killed, or are cut off."""
        reply = self._scripts.run(
            "expired", [self._keys.provisioners, self._keys.provisioner_info], [100, PROVISIONER_LEASE]
        )
        return [name_of(member) for member in reply[::2]]

    def served_by(self, member: str) -> tuple[str, ...]:
        """What a provisioner serves or served; nothing when that cannot be told."""
        with translated(self._where):
            packed: Any = self._client.hget(self._keys.provisioner_info, raw_name(member))
        with suppress(SerializationError):
            return decode_provisioner(member, packed or b"").serves
        return ()

    def rq_name(self, member: str) -> str:
        """The name under which a provisioner claims operations."""
        return f"{self._keys.case}.provisioner.{member.rsplit('/', 1)[-1]}"

    def serving(self, server: str) -> list[ProvisionerRecord]:
        """Those that serve a host or cluster."""
        return [record for record in self.alive() if server in record.serves]

    def take_duty(self, duty: str, owner: str, seconds: float) -> bool:
        """Whether ``owner`` has the periodic duty for the next ``seconds``."""
        return bool(self._scripts.run("lease", [self._keys.lease(duty)], [owner, int(seconds * 1000)]))

    def drop_duty(self, duty: str, owner: str) -> None:
        """Hand a duty back at a clean end, so that the next one need not wait."""
        self._scripts.run("release_lease", [self._keys.lease(duty)], [owner])

    def lock(self, wgroup_id: int, owner: str, seconds: float) -> bool:
        """Take or renew the lock of a resource set: its operations run one after the other."""
        return bool(self._scripts.run("lease", [self._keys.lock(wgroup_id)], [owner, int(seconds * 1000)]))

    def unlock(self, wgroup_id: int, owner: str) -> None:
        """Give the lock of a resource set back."""
        self._scripts.run("release_lease", [self._keys.lock(wgroup_id)], [owner])

    def is_locked(self, wgroup_id: int, host: str) -> bool:
        """Whether an operation is at work on the set; the lock of one that was killed here is removed.

        What is no lock of ours locks nothing, see ``lease.lua``.
        """
        key = self._keys.lock(wgroup_id)
        with translated(self._where):
            pipeline = self._client.pipeline(transaction=False)
            pipeline.get(key)
            pipeline.pttl(key)
            found: list[Any] = pipeline.execute(raise_on_error=False)
        lock, left = found
        if not isinstance(lock, bytes) or left < 0:
            return False
        owner = _owner_of(lock)
        if owner is not None and is_here(owner, host) and not is_alive(owner):
            self.unlock(wgroup_id, lock_owner(owner))
            return False
        return True

    def burn(self, nonce: str, job_id: str, seconds: float) -> bool:
        """Burn an operation's nonce: True for the first job id that brings it, and for that one again."""
        key = self._keys.nonce(nonce)
        with translated(self._where):
            if self._client.set(key, job_id, nx=True, px=max(1, int(seconds * 1000))):
                return True
            holder: Any = self._client.get(key)
        return holder is not None and holder.decode() == job_id
