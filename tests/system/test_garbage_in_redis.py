"""Wrong types and garbage bytes in our keys: readers say so clearly, launchers and provisioners go on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from rq.job import JobStatus
from support import jobs
from support.cases import LiveCase
from support.processes import survivors
from support.waiting import holds_for, wait_until

from gutscore_rs.errors import GutscoreError, SerializationError, StoreError
from gutscore_rs.identity import is_alive
from gutscore_rs.overview import Overview
from gutscore_rs.store.keys import CaseKeys
from gutscore_rs.store.records import State

NOISE = os.urandom(60)


def readers(case: LiveCase) -> Iterator[Callable[[], Any]]:
    """Everything that users and dashboards read."""
    store = case.store
    yield store.sets.ids
    yield store.sets.all
    yield lambda: store.sets.get(0)
    yield lambda: store.sets.launchers(0)
    yield lambda: store.workers.counts([0, 1])
    yield lambda: store.workers.alive([0, 1])
    yield lambda: store.workers.counts_by_host([0, 1])
    yield lambda: store.workers.expired(0)
    yield store.provisioners.alive
    yield store.history.events
    yield store.history.lost
    yield lambda: case.operations.is_released(0)
    yield Overview(store).count
    yield Overview(store).events


def read_all(case: LiveCase) -> list[GutscoreError]:
    """Run every reader; what they complained of. Any other error fails the test."""
    complaints = []
    for read in readers(case):
        try:
            read()
        except (SerializationError, StoreError) as error:
            complaints.append(error)
    return complaints


def noise_in(case: LiveCase, key: str) -> None:
    """Garbage of the key's own type, beside what is there."""
    client = case.store.client
    match client.type(key):
        case b"hash":
            client.hset(key, mapping=dict.fromkeys(client.hkeys(key), NOISE) | {NOISE: NOISE})
        case b"zset":
            client.zadd(key, {NOISE: case.store.time() + 5, b"-7": 1, b"": 2})
        case b"stream":
            client.xadd(key, {NOISE: NOISE, b"at": b"soon"})
        case other:
            raise AssertionError(f"{key} is of type {other!r}")


def test_readers_name_what_is_wrong_and_nobody_dies_of_it(case: LiveCase) -> None:
    case.request(0, nworkers=2)
    case.request(1, nworkers=1)
    client, keys = case.store.client, case.store.keys
    os.kill(case.pids(1)[0], signal.SIGKILL)
    case.wait_active(1, 1)
    workers, launcher = case.pids(0), case.launcher(0)
    main = [
        keys.resource_sets,
        keys.resource_set(0),
        keys.live(0),
        keys.workers(0),
        keys.launchers(0),
        keys.provisioners,
        keys.provisioner_info,
        keys.events,
        keys.lost,
    ]
    for key in main:
        saved = client.dump(key)
        noise_in(case, key)
        read_all(case)
        client.set(key, NOISE)
        complaints = read_all(case)
        assert complaints, f"nobody noticed that {key} is a string"
        assert all(len(str(error)) > 40 for error in complaints)
        client.delete(key)
        assert isinstance(saved, bytes)
        client.restore(key, 0, saved, replace=True)
    assert read_all(case) == []
    wait_until(lambda: case.pids(0) == workers, 6, what="the same workers are counted")
    assert is_alive(launcher)
    assert is_alive(case.provisioners[0])
    job = case.queue().enqueue(jobs.square, 6)
    wait_until(lambda: job.get_status() is JobStatus.FINISHED, 15, what="work goes on")


def test_every_kind_of_key_is_tried() -> None:
    kinds = {name for name in vars(CaseKeys) if not name.startswith("_")} - {"case", "root"}
    tried = {"resource_sets", "resource_set", "live", "workers", "launchers", "provisioners", "provisioner_info"}
    # `states` is read with `workers`; locks and leases in tests/store/test_provisioners.py; any bytes are a nonce or a
    # tombstone; submissions in tests/store/test_submissions.py; those of executors in tests/store/test_calls.py.
    elsewhere = {"states", "lock", "lease", "nonce", "tombstone", "submission", "submissions", "executor", "replies"}
    assert kinds == tried | elsewhere | {"events", "lost"}, "a new key needs garbage, too"


def test_a_garbled_set_does_not_hold_up_the_others_and_recovers_when_it_is_removed(case: LiveCase) -> None:
    case.request(0, nworkers=2)
    case.request(1, nworkers=1)
    client, keys = case.store.client, case.store.keys
    workers, launcher = case.pids(0), case.launcher(0)
    for key in (keys.resource_set(0), keys.workers(0), keys.launchers(0)):
        client.delete(key)
        client.set(key, NOISE)
    with pytest.raises(GutscoreError, match=r"resource_set:0"):
        case.store.sets.get(0)
    os.kill(case.launcher(1).pid, signal.SIGKILL)
    wait_until(lambda: case.store.workers.count(1) == 0, 5, what="the other set's launcher is seen dead")
    case.wait_active(1, 1)
    # Longer than a beat.
    holds_for(
        lambda: is_alive(launcher) and is_alive(case.provisioners[0]) and len(survivors(workers)) == 2,
        5.0,
        what="launcher, workers and provisioner live",
        interval=0.5,
    )
    assert "resource_set:0" in case.log_text("provisioner")
    assert case.log_text("provisioner").count("ERROR") < 20, "it is logged in a loop"
    for key in (keys.resource_set(0), keys.workers(0), keys.launchers(0)):
        client.delete(key)
    wait_until(lambda: case.state_of(0) is State.ACTIVE and case.pids(0) == workers, 10, what="the set is restored")
    case.operations.release(0, timeout=20)
    assert survivors([*workers, launcher.pid]) == []
