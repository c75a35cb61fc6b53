"""The two streams: newest last, followed as they come, capped."""

from __future__ import annotations

from support.records import current, registered, requested

from gutscore_rs.store import Store
from gutscore_rs.store.records import State
from gutscore_rs.store.workers import Departure


def test_events_are_read_oldest_first_and_only_the_newest(store: Store) -> None:
    requested(store)
    for why in ("a", "b", "c"):
        store.sets.transition(current(store), State.SUBMITTING, why)
    assert [event.fields["why"] for event in store.history.events(2)] == ["b", "c"]
    events = store.history.events()
    assert [event.resource_set for event in events] == [0] * 4
    assert sorted(event.at for event in events) == [event.at for event in events]
    assert abs(events[-1].at - store.time()) < 5


def test_no_history_is_an_empty_list(store: Store) -> None:
    assert store.history.events() == store.history.lost() == []


def test_both_streams_are_followed_from_where_one_was(store: Store) -> None:
    requested(store, 0)
    follower = store.history.follow(after="0", block=0.01)
    first = next(follower)
    assert first is not None
    assert (first[0], first[1].fields["state"]) == ("event", "requested")
    assert next(follower) is None
    member = registered(store, 1, 1)[0].member
    store.workers.leave(1, [Departure(member, "h", 1, "killed")])
    seen = []
    while (entry := next(follower)) is not None:
        seen.append(entry)
    assert [kind for kind, _ in seen].count("lost") == 1
    assert {entry.resource_set for _, entry in seen} == {1}


def test_following_from_now_skips_the_past(store: Store) -> None:
    requested(store)
    follower = store.history.follow(block=0.01)
    assert next(follower) is None


def test_an_entry_of_garbage_is_shown(store: Store) -> None:
    store.client.xadd(store.keys.events, {b"\xff": b"\xff", b"at": b"long ago"})
    [event] = store.history.events()
    assert (event.at, event.resource_set) == (0.0, -1)
    assert "\\xff" in event.fields


def test_deaths_are_capped(store: Store) -> None:
    pipeline = store.client.pipeline(transaction=False)
    for _ in range(10_500):
        pipeline.xadd(store.keys.lost, {"at": "1"})
    pipeline.execute()
    member = registered(store, 1)[0].member
    store.workers.leave(0, [Departure(member, "h", 1, "killed")])
    assert store.client.xlen(store.keys.lost) < 10_200
