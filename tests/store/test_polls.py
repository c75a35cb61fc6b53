"""Looks at a scheduler's queue: one process looks, all read; garbage is no look."""

from __future__ import annotations

import pytest

from gutscore_rs.store import PollKeys, Store
from gutscore_rs.store.records import pack

KEYS = PollKeys("alps", "ada")


def test_what_one_saw_all_read(store: Store) -> None:
    assert store.polls.newest(KEYS) is None
    store.polls.write(KEYS, 5.0, [{"job_id": "1"}], "slow")
    found = store.polls.newest(KEYS)
    assert found is not None
    assert (found.at, found.error, found.rows) == (5.0, "slow", ({"job_id": "1"},))
    assert 0 < store.client.ttl(KEYS.poll) <= 3600


def test_one_at_a_time_has_the_turn(store: Store) -> None:
    assert store.polls.take_turn(KEYS, "one", 30.0)
    assert not store.polls.take_turn(KEYS, "two", 30.0)
    assert store.polls.take_turn(PollKeys("alps", "bob"), "two", 30.0)
    store.polls.end_turn(KEYS, "two")
    assert not store.polls.take_turn(KEYS, "two", 30.0)
    store.polls.end_turn(KEYS, "one")
    assert store.polls.take_turn(KEYS, "two", 30.0)


@pytest.mark.parametrize(
    "garbage", [b"\xff\x00", b"", pack([1]), pack({"at": "x", "rows": []}), pack({"at": 1.0, "rows": 3}), pack({})]
)
def test_garbage_is_no_look(store: Store, garbage: bytes) -> None:
    store.client.set(KEYS.poll, garbage)
    assert store.polls.newest(KEYS) is None


def test_a_key_of_another_type_is_no_look_and_the_next_takes_its_place(store: Store) -> None:
    store.client.hset(KEYS.poll, "a", "b")
    assert store.polls.newest(KEYS) is None
    store.polls.write(KEYS, 5.0, [])
    assert store.polls.newest(KEYS) is not None


def test_no_case_can_have_the_keys_of_looks() -> None:
    assert KEYS.root == "gutscore:{slurm/alps/ada}"
