"""Provisioners in Redis, the duties that they share by leases, and nonces that are burnt once."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import redis

from gutscore_rs.errors import SerializationError
from gutscore_rs.store.connection import translated
from gutscore_rs.store.keys import CaseKeys
from gutscore_rs.store.records import ProvisionerRecord, decode_provisioner, pack, text_of
from gutscore_rs.store.scripts import Scripts

PROVISIONER_LEASE = 12.0
PROVISIONER_BEAT = 3.0


class Provisioners:
    """Who can carry out operations, and who does the periodic work."""

    def __init__(self, client: redis.Redis, scripts: Scripts, keys: CaseKeys, where: str) -> None:
        self._client = client
        self._scripts = scripts
        self._keys = keys
        self._where = where

    def beat(self, record: ProvisionerRecord) -> None:
        """Register, or renew the lease."""
        info = {"host": record.host, "pid": record.pid, "serves": list(record.serves),
                "started_at": record.started_at, "version": record.version}
        self._scripts.run("provisioner_beat", [self._keys.provisioners, self._keys.provisioner_info],
                          [record.member, PROVISIONER_LEASE, pack(info)])

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
                found.append(decode_provisioner(text_of(member), packed or b""))
        return found

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

    def is_locked(self, wgroup_id: int) -> bool:
        """Whether an operation is at work on the set."""
        with translated(self._where):
            return bool(self._client.exists(self._keys.lock(wgroup_id)))

    def burn(self, nonce: str, job_id: str, seconds: float) -> bool:
        """Burn an operation's nonce: True for the first job id that brings it, and for that one again."""
        key = self._keys.nonce(nonce)
        with translated(self._where):
            if self._client.set(key, job_id, nx=True, px=max(1, int(seconds * 1000))):
                return True
            holder: Any = self._client.get(key)
        return holder is not None and holder.decode() == job_id
