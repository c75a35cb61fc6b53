"""Who can carry out operations; duties and locks held by one at a time; nonces that burn."""

from __future__ import annotations

import pytest
from support.waiting import wait_until

from gutscore_rs.store import Store
from gutscore_rs.store.provisioners import PROVISIONER_LEASE
from gutscore_rs.store.records import ProvisionerRecord

ONE = ProvisionerRecord("one/1/aa", "one", 1, ("one", "slurm-c"), 5.0, "0.1")
TWO = ProvisionerRecord("two/2/bb", "two", 2, ("two",), 6.0, "0.1")


def test_live_provisioners_are_found_by_what_they_serve(store: Store) -> None:
    for record in (ONE, TWO):
        store.provisioners.beat(record)
    assert sorted(store.provisioners.alive(), key=lambda one: one.member) == [ONE, TWO]
    assert store.provisioners.serving("slurm-c") == [ONE]
    assert store.provisioners.serving("three") == []
    store.provisioners.leave(ONE.member)
    store.provisioners.leave(ONE.member)
    assert store.provisioners.alive() == [TWO]


def test_one_whose_lease_ended_serves_nothing_and_is_known_until_somebody_has_tidied_up_after_it(store: Store) -> None:
    store.provisioners.beat(ONE)
    for age in (1, 3600):
        store.client.zadd(store.keys.provisioners, {ONE.member: store.time() - age})
        store.provisioners.beat(TWO)
        assert store.provisioners.alive() == [TWO]
        # Its operations are found by this entry: no beat of another may remove it.
        assert store.provisioners.expired() == [ONE.member]
        store.forget()
        assert store.provisioners.expired() == [ONE.member]
    store.provisioners.beat(ONE)
    assert len(store.provisioners.alive()) == 2


def test_a_lease_of_a_clock_that_stepped_back_does_not_serve(store: Store) -> None:
    store.provisioners.beat(ONE)
    store.client.zadd(store.keys.provisioners, {ONE.member: store.time() + PROVISIONER_LEASE + 60})
    assert store.provisioners.serving("one") == []


@pytest.mark.parametrize("garbage", [b"", b"\xc1", b"\x80"])
def test_one_whose_record_is_garbage_does_not_hide_the_others(store: Store, garbage: bytes) -> None:
    for record in (ONE, TWO):
        store.provisioners.beat(record)
    store.client.hset(store.keys.provisioner_info, ONE.member, garbage)
    assert store.provisioners.alive() == [TWO]
    store.client.hdel(store.keys.provisioner_info, ONE.member)
    assert store.provisioners.alive() == [TWO]


def test_a_duty_has_one_owner_until_it_is_dropped_or_over(store: Store) -> None:
    take = store.provisioners.take_duty
    assert take("reaper", "me", 60.0)
    assert take("reaper", "me", 60.0)
    assert not take("reaper", "you", 60.0)
    assert take("scheduler", "you", 60.0)
    store.provisioners.drop_duty("reaper", "you")
    assert not take("reaper", "you", 60.0)
    store.provisioners.drop_duty("reaper", "me")
    assert take("reaper", "you", 0.05)
    wait_until(lambda: take("reaper", "me", 60.0), what="the duty is free after its time")


def test_a_sets_lock_is_its_owners(store: Store) -> None:
    assert store.provisioners.lock(0, "me", 60.0)
    assert not store.provisioners.lock(0, "you", 60.0)
    assert store.provisioners.lock(1, "you", 60.0)
    assert store.provisioners.is_locked(0, "host")
    store.provisioners.unlock(0, "you")
    assert store.provisioners.is_locked(0, "host")
    store.provisioners.unlock(0, "me")
    assert not store.provisioners.is_locked(0, "host")


def test_a_nonce_burns_for_one_job_and_its_ash_blows_away(store: Store) -> None:
    burn = store.provisioners.burn
    assert burn("n", "job", 60.0)
    assert burn("n", "job", 60.0)
    assert not burn("n", "other", 60.0)
    assert burn("m", "other", -5.0)
    assert 0 < store.client.pttl(store.keys.nonce("n")) <= 60_000
    wait_until(lambda: not store.client.exists(store.keys.nonce("m")), what="a nonce that is over is gone")


@pytest.mark.parametrize("garbage", ["no lock of ours", b"\xff\x00", ["a", "list"]])
def test_garbage_where_a_lock_belongs_keeps_nobody_out(store: Store, garbage: str | bytes | list[str]) -> None:
    key = store.keys.lock(0)
    if isinstance(garbage, list):
        store.client.rpush(key, *garbage)
    else:
        store.client.set(key, garbage)
    assert not store.provisioners.is_locked(0, "one")
    assert store.provisioners.lock(0, "me", 10.0)
    assert store.provisioners.is_locked(0, "one")
    assert not store.provisioners.lock(0, "you", 10.0)
