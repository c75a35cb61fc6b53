"""What must be true of a case after any fault, compared with the processes that the operating system has."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable

from support.cases import LiveCase
from support.processes import lives, log_of, parent_of, survivors
from support.waiting import wait_until

from gutscore_rs.processes import marked_processes

# A killed worker is seen by its launcher; what else is lost, at the latest by its lease (design, section 2).
AT_ONCE, IN_TIME = 1.0, 15.0


def real_workers(case: LiveCase, wgroup_id: int) -> list[int]:
    """Workers of a set that run, whatever Redis says: children of a launcher that write into a worker's log."""
    marked = marked_processes(f"{case.folder.root}:{wgroup_id}/", prefix=True)
    logs = {pid: log_of(pid) for pid in marked}
    launchers = {pid for pid, log in logs.items() if log == "launcher.log"}
    workers = [pid for pid, log in logs.items() if log.startswith("worker-") and parent_of(pid) in launchers]
    return sorted(survivors(workers))


def nobody_dead_is_counted(case: LiveCase, sets: Iterable[int], seconds: float) -> None:
    ids = list(sets)
    wait_until(
        lambda: all(lives(worker.pid) for worker in case.store.workers.alive(ids)),
        seconds,
        what="no dead worker is counted",
        interval=0.02,
    )


def count_is_true(case: LiveCase, wgroup_id: int, nworkers: int, seconds: float) -> None:
    """The set has its workers, the count says so, and it names the very processes that run."""
    seen: list[object] = []

    def agrees() -> bool:
        counted, real = case.pids(wgroup_id), real_workers(case, wgroup_id)
        seen[:] = [case.state_of(wgroup_id), counted, real]
        return case.store.workers.count(wgroup_id) == nworkers and counted == real

    try:
        wait_until(agrees, seconds, what=f"{nworkers} workers of set {wgroup_id} run and are counted", interval=0.05)
    except AssertionError as error:
        raise AssertionError(f"{error}; state, counted, real: {seen}") from None


def states_are_explained(case: LiveCase, sets: Iterable[int]) -> None:
    """Each set is where its newest event says, each change has a reason, and each follows from the one before."""
    for wgroup_id in sets:
        record = case.store.sets.get(wgroup_id)
        events = [event for event in case.store.history.events(10_000) if event.resource_set == wgroup_id]
        if record is None:
            assert not events
            continue
        # Between the two reads the set may have moved on: then look again.
        if case.store.sets.get(wgroup_id) != record:
            states_are_explained(case, [wgroup_id])
            continue
        told = [(event.fields["from"], event.fields["state"], event.fields["why"]) for event in events]
        assert told, f"set {wgroup_id} is {record.state} and nothing tells why"
        assert told[-1][1] == record.state.value, f"set {wgroup_id} is {record.state}: {told}"
        assert all(why for before, state, why in told if state != "requested"), told
        for (_, reached, _), (left, _, _) in itertools.pairwise(told):
            assert left == reached, f"set {wgroup_id}: {told}"


def left_behind(case: LiveCase, forgotten: Iterable[int]) -> list[str]:
    """After release and forget: processes of the case, keys that nobody alive needs, keys without an end."""
    store = case.store
    left = [f"process {pid}" for pid in marked_processes(f"{case.folder.root}:", prefix=True) if pid != os.getpid()]
    mine = {key.decode() for key in store.client.scan_iter(f"{store.keys.root}:*", count=1000)}
    tombstones = {store.keys.tombstone(wgroup_id) for wgroup_id in forgotten}
    left += [f"no {key}" for key in tombstones - mine]
    # What living provisioners write anew.
    duties = {key for key in mine if key.startswith((f"{store.keys.root}:lease:", f"{store.keys.root}:nonce:"))}
    left += mine - duties - tombstones - {store.keys.provisioners, store.keys.provisioner_info}
    left += [f"{key} has no end" for key in (duties | tombstones) & mine if store.client.ttl(key) == -1]
    return left + traces_of_workers(case)


def traces_of_workers(case: LiveCase) -> list[str]:
    """RQ's keys of executions and of workers that have no end, but for those of living provisioners."""
    client = case.store.client
    alive = {case.store.provisioners.rq_name(record.member) for record in case.store.provisioners.alive()}
    keys = [
        key.decode()
        for pattern in ("rq:execution*", "rq:wip:*", "rq:worker:*", "rq:workers*")
        for key in client.scan_iter(pattern, count=1000)
    ]
    found = [key for key in keys if client.ttl(key) == -1 and client.type(key) != b"set"]
    for key in keys:
        if client.type(key) == b"set":
            members = [member.decode() for member in client.smembers(key)]
            found += [f"{key}: {member}" for member in members if member.removeprefix("rq:worker:") not in alive]
    return found
