"""Records as launchers and requesters write them, for tests of the store alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gutscore_rs.identity import ProcessIdentity, this_process
from gutscore_rs.store import Store
from gutscore_rs.store.records import ResourceSetRecord, State, WorkerRecord

NODE = "node-1"


def spec(**changes: Any) -> dict[str, Any]:
    return {"backend": "local", "nworkers": 2, "runtime": 60, "daemonize": False} | changes


def me(host: str = NODE) -> ProcessIdentity:
    return this_process(host)


def requested(store: Store, wgroup_id: int = 0, **changes: Any) -> ResourceSetRecord:
    store.sets.request(wgroup_id, spec(**changes), server=NODE, requester=None, timeout=60.0)
    return current(store, wgroup_id)


def current(store: Store, wgroup_id: int = 0) -> ResourceSetRecord:
    record = store.sets.get(wgroup_id)
    assert record is not None
    return record


def launched(store: Store, wgroup_id: int = 0, *, token: str = "token", **changes: Any) -> ResourceSetRecord:
    """A set whose launch has begun."""
    changed = store.sets.transition(requested(store, wgroup_id, **changes), State.SUBMITTING, "launch", token=token)
    assert changed is not None
    return changed


def attached(store: Store, wgroup_id: int = 0, *, node: str = NODE, nonce: str = "nonce", **changes: Any) -> str:
    """A set with a launcher; the launcher's owner string."""
    record = store.sets.get(wgroup_id)
    if record is None or record.state.ended:
        record = launched(store, wgroup_id, **changes)
    got = store.sets.attach(
        wgroup_id, generation=record.generation, token=record.token, node=node, nonce=nonce, identity=me(node)
    )
    assert not isinstance(got, str), got
    return f"{record.token}:{nonce}:"


def worker(index: int, wgroup_id: int = 0, *, node: str = NODE, generation: int = 1) -> WorkerRecord:
    member = f"{node}/{generation}/{index}/{1000 + index}/77/deadbeef/{index:08x}"
    return WorkerRecord(
        member=member,
        resource_set=wgroup_id,
        index=index,
        host=node,
        pid=1000 + index,
        start_ticks=77,
        boot_id="boot",
        started_at=5.0,
        rq_name=f"rq-{wgroup_id}-{index}",
    )


def registered(
    store: Store, count: int = 2, wgroup_id: int = 0, *, node: str = NODE, **changes: Any
) -> list[WorkerRecord]:
    """A set with a launcher and live workers."""
    owner = attached(store, wgroup_id, node=node, **changes)
    workers = [worker(index, wgroup_id, node=node) for index in range(count)]
    assert store.workers.register(wgroup_id, 1, node, owner, workers) == "ok"
    return workers


def expire(store: Store, members: Iterable[str], wgroup_id: int = 0, *, by: float = 1.0) -> None:
    """Let leases have ended a while ago."""
    store.client.zadd(store.keys.live(wgroup_id), dict.fromkeys(members, store.time() - by))
