"""Leases by the server's clock: exact with nobody sweeping, renewed by launchers that still have the node."""

from __future__ import annotations

import pytest
from support.records import NODE, attached, current, expire, registered, worker

from gutscore_rs.store import Store
from gutscore_rs.store.records import State
from gutscore_rs.store.workers import LEASE_SECONDS, Departure, host_of

OWNER = "token:nonce:"


def gone(member: str, reason: str = "killed", job: str = "") -> Departure:
    return Departure(member, NODE, 1, reason, job)


def test_registered_workers_count_and_the_full_number_makes_the_set_active(store: Store) -> None:
    owner = attached(store)
    assert store.workers.register(0, 1, NODE, owner, [worker(0)]) == "ok"
    assert (store.workers.count(0), current(store).state) == (1, State.STARTING)
    assert store.workers.register(0, 1, NODE, owner, [worker(1)]) == "ok"
    record = current(store)
    assert (store.workers.count(0), record.state, record.peak_active) == (2, State.ACTIVE, 2)
    assert record.started_at > 0
    assert store.history.events()[-1].fields["why"] == "2 workers"


def test_registering_again_changes_nothing(store: Store) -> None:
    registered(store)
    before, told = current(store), len(store.history.events())
    assert store.workers.register(0, 1, NODE, OWNER, [worker(0), worker(1)]) == "ok"
    assert (current(store), len(store.history.events()), store.workers.count(0)) == (before, told, 2)


def test_the_records_say_who_they_are(store: Store) -> None:
    expected = registered(store)
    for found in (store.workers.alive([0]), store.workers.registered(0, NODE)):
        assert sorted(found, key=lambda one: one.index) == expected
    assert store.workers.registered(0, "another") == []


def test_leases_are_the_servers_time_and_no_more(store: Store) -> None:
    before = store.time()
    member = registered(store, 1)[0].member
    score = store.client.zscore(store.keys.live(0), member)
    assert before + LEASE_SECONDS <= score <= store.time() + LEASE_SECONDS


def test_expired_workers_count_no_more_although_nobody_swept(store: Store) -> None:
    members = [one.member for one in registered(store, 5)]
    expire(store, members[:2], by=0.001)
    assert store.workers.count(0) == 3
    assert store.workers.live_members([0]) == {0: sorted(members[2:])}
    assert {one.member for one in store.workers.expired(0)} == set(members[:2])
    assert len(store.workers.expired(0, limit=1)) == 1
    assert store.client.zcard(store.keys.live(0)) == 5


def test_a_lease_from_a_clock_that_stepped_back_does_not_count(store: Store) -> None:
    members = [one.member for one in registered(store)]
    store.client.zadd(store.keys.live(0), {members[0]: store.time() + 3600})
    assert store.workers.count(0) == 1
    assert store.workers.beat(0, 1, NODE, OWNER, members)[0] == "ok"
    assert store.workers.count(0) == 2


def test_a_beat_renews_and_names_those_that_redis_lost(store: Store) -> None:
    members = [one.member for one in registered(store, 3)]
    expire(store, members)
    store.client.zrem(store.keys.live(0), members[1])
    order, deadline, missing = store.workers.beat(0, 1, NODE, OWNER, [*members, "never/was/here"])
    assert (order, missing) == ("ok", [members[1], "never/was/here"])
    assert deadline == pytest.approx(current(store).deadline)
    assert store.workers.live_members([0])[0] == sorted([members[0], members[2]])


def test_2500_workers_beat_in_one_call(store: Store) -> None:
    members = [one.member for one in registered(store, 2500, nworkers=2500)]
    lost = members[::500]
    store.client.zrem(store.keys.live(0), *lost)
    expire(store, [member for member in members if member not in lost])
    assert store.workers.count(0) == 0
    order, _, missing = store.workers.beat(0, 1, NODE, OWNER, members)
    assert (order, missing) == ("ok", lost)
    assert store.workers.count(0) == 2495
    assert len(store.workers.alive([0])) == 2495


@pytest.mark.parametrize(
    ("state", "order"),
    [
        (State.ACTIVE, "ok"),
        (State.STARTING, "ok"),
        (State.DRAINING, "drain"),
        (State.RELEASING, "release"),
        (State.RELEASED, "release"),
        (State.FAILED, "release"),
        (State.EXPIRED, "release"),
    ],
)
def test_beats_and_registrations_bring_the_order_of_the_state(store: Store, state: State, order: str) -> None:
    member = registered(store)[0].member
    store.sets.transition(current(store), state, "x")
    assert store.workers.beat(0, 1, NODE, OWNER, [member])[0] == order
    assert store.workers.register(0, 1, NODE, OWNER, [worker(0)]) == order


def test_no_worker_is_registered_into_a_set_that_ends(store: Store) -> None:
    attached(store)
    store.sets.transition(current(store), State.RELEASING, "x")
    assert store.workers.register(0, 1, NODE, OWNER, [worker(0)]) == "release"
    assert store.workers.count(0) == 0


def test_a_set_that_vanished_is_told_to_its_launcher(store: Store) -> None:
    registered(store)
    store.client.delete(store.keys.launchers(0))
    assert store.workers.beat(0, 1, NODE, OWNER, [])[0] == "vanished"
    store.client.delete(store.keys.resource_set(0))
    assert store.workers.beat(0, 1, NODE, OWNER, [])[0] == "vanished"
    assert store.workers.register(0, 1, NODE, OWNER, [worker(0)]) == "vanished"


@pytest.mark.parametrize(("generation", "owner"), [(2, OWNER), (1, "token:other:"), (1, "tok"), (1, "older:nonce:")])
def test_whoever_lost_its_place_is_fenced_and_renews_nothing(store: Store, generation: int, owner: str) -> None:
    members = [one.member for one in registered(store)]
    expire(store, members)
    if owner == "tok":
        owner = "tok:nonce:"
    assert store.workers.beat(0, generation, NODE, owner, members)[0] == "fenced"
    assert store.workers.register(0, generation, NODE, owner, [worker(0)]) == "fenced"
    assert store.workers.count(0) == 0


def test_leaving_takes_effect_at_once_and_tells_why(store: Store) -> None:
    members = [one.member for one in registered(store, 3, nworkers=3)]
    store.workers.set_states(0, {members[0]: "hung"})
    assert store.workers.leave(0, [gone(members[0], "killed by SIGKILL", "job-1"), gone(members[1], "")]) == 2
    assert store.workers.count(0) == 1
    assert [
        (death.fields["member"], death.fields["reason"], death.fields["job"]) for death in store.history.lost()
    ] == [(members[0], "killed by SIGKILL", "job-1")]
    assert store.workers.leave(0, [gone(members[0])]) == 0
    assert len(store.history.lost()) == 1
    assert [one.member for one in store.workers.registered(0, NODE)] == [members[2]]
    assert not store.client.exists(store.keys.states(0))
    assert store.workers.leave(0, []) == 0


def test_a_sweeper_spares_whoever_beat_again_meanwhile(store: Store) -> None:
    members = [one.member for one in registered(store)]
    expire(store, members)
    doomed = store.workers.expired(0)
    store.workers.beat(0, 1, NODE, OWNER, members[:1])
    assert store.workers.leave(0, [gone(one.member) for one in doomed], only_expired=True) == 1
    assert store.workers.live_members([0]) == {0: members[:1]}


def test_leases_from_before_the_clock_stepped_back_are_over_and_those_given_since_are_not(store: Store) -> None:
    members = [one.member for one in registered(store, 3, nworkers=3)]
    expire(store, members[1:], by=-3600)
    doomed = store.workers.expired(0)
    assert {one.member for one in doomed} == set(members[1:])
    store.workers.beat(0, 1, NODE, OWNER, [members[1]])
    assert store.workers.leave(0, [gone(one.member) for one in doomed], only_expired=True) == 1
    assert store.workers.live_members([0]) == {0: sorted(members[:2])}


def test_counts_by_set_and_by_host_agree(store: Store) -> None:
    registered(store, 2, 0)
    registered(store, 3, 1, node="node-2")
    attached(store, 1, nonce="here")
    store.workers.register(1, 1, NODE, "token:here:", [worker(9, 1)])
    assert store.workers.counts([0, 1, 2]) == {0: 2, 1: 4, 2: 0}
    assert store.workers.counts_by_host([0, 1, 2]) == {NODE: 3, "node-2": 3}
    assert store.workers.counts([]) == store.workers.counts_by_host([]) == store.workers.live_members([]) == {}
    assert store.workers.alive([]) == []
    assert host_of(worker(1, node="n.a-b").member) == "n.a-b"


def test_two_cases_never_see_each_other(store: Store) -> None:
    registered(store)
    other = Store(store.client, f"{store.case}x", "other")
    assert other.workers.counts([0]) == {0: 0}
    assert other.sets.ids() == []


def test_states_are_shown_until_a_worker_is_alive_again(store: Store) -> None:
    member = registered(store, 1)[0].member
    store.workers.set_states(0, {member: "stopped"})
    assert store.workers.alive([0])[0].state == "stopped"
    store.workers.set_states(0, {member: "alive"})
    assert store.workers.alive([0])[0].state == "alive"
    assert not store.client.exists(store.keys.states(0))


def test_the_job_of_a_worker_is_shown(store: Store) -> None:
    one = registered(store, 1)[0]
    store.client.sadd(store.rq_keys.worker_executions(one.rq_name), "some-job:execution")
    assert store.workers.alive([0])[0].job == "some-job"


@pytest.mark.parametrize(
    "member", [b"", b"x", b"a/1/\xc2\xb2/3/4/boot/nonce", b"\xff/1/2/3/4/b/n", b"a" * 5000, b"n/1/2/3/4/5/6/7"]
)
def test_a_member_or_record_of_garbage_is_counted_and_shown_and_breaks_nothing(store: Store, member: bytes) -> None:
    registered(store)
    store.client.zadd(store.keys.live(0), {member: store.time() + 5})
    store.client.hset(store.keys.workers(0), member, b"\xc1garbage")
    assert store.workers.count(0) == 3
    assert len(store.workers.alive([0])) == 3
    assert len(store.workers.registered(0, NODE)) == 2
    assert sum(store.workers.counts_by_host([0]).values()) == 3
    store.client.zadd(store.keys.live(0), {member: 1.0})
    assert len(store.workers.expired(0)) == 1
