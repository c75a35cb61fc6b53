"""The one gate through which states change: who may pass, what it writes, when it ends."""

from __future__ import annotations

import threading

import pytest
from support.records import NODE, attached, current, expire, launched, me, registered, requested, spec, worker

from gutscore_rs.errors import SerializationError, StateConflictError
from gutscore_rs.store import Store
from gutscore_rs.store.records import ENDED, OPEN, State, encode_resource_set
from gutscore_rs.store.resource_sets import KEEP_ENDED, TOMBSTONE


def states_told(store: Store) -> list[tuple[str, str, str]]:
    return [(event.fields["from"], event.fields["state"], event.fields["why"]) for event in store.history.events()]


def end(store: Store, wgroup_id: int = 0, to: State = State.RELEASED) -> None:
    assert store.sets.transition(current(store, wgroup_id), to, "over")


# -- request ------------------------------------------------------------------------------------------------


def test_a_request_is_readable_as_it_was_made(store: Store) -> None:
    generation, version = store.sets.request(
        3, spec(daemonize=True, note="é"), server=NODE, requester=me(), timeout=60.0
    )
    record = current(store, 3)
    assert (generation, version, record.generation, record.version) == (1, 1, 1, 1)
    assert (record.state, record.nworkers, record.runtime, record.daemonize, record.server) == (
        State.REQUESTED,
        2,
        60,
        True,
        NODE,
    )
    assert record.spec == spec(daemonize=True, note="é")
    assert record.requester == me()
    assert record.expires_at - record.requested_at == pytest.approx(60.0)
    assert store.sets.ids() == [3]
    assert store.sets.all() == [record]
    assert states_told(store) == [("", "requested", "")]


def test_a_set_in_use_is_not_requested_again_and_stays_as_it_is(store: Store) -> None:
    before = requested(store)
    for state in OPEN - {State.REQUESTED}:
        with pytest.raises(StateConflictError, match=before.state.value):
            store.sets.request(0, spec(nworkers=9), server=NODE, requester=None, timeout=60.0)
        assert current(store) == before
        before = store.sets.transition(before, state, "next") or before
        assert before.state is state


@pytest.mark.parametrize("final", sorted(ENDED))
def test_an_ended_set_is_requested_anew_under_the_next_generation(store: Store, final: State) -> None:
    requested(store)
    end(store, to=final)
    version = current(store).version
    assert store.sets.request(0, spec(), server=NODE, requester=None, timeout=60.0) == (2, version + 1)
    record = current(store)
    assert (record.state, record.error, record.ended_at, record.token) == (State.REQUESTED, "", 0.0, "")
    assert store.client.ttl(store.keys.resource_set(0)) == -1


def test_a_set_whose_workers_still_live_is_not_requested_again(store: Store) -> None:
    members = [one.member for one in registered(store)]
    end(store)
    with pytest.raises(StateConflictError, match="2 living workers"):
        store.sets.request(0, spec(), server=NODE, requester=None, timeout=60.0)
    expire(store, members)
    store.sets.request(0, spec(), server=NODE, requester=None, timeout=60.0)
    assert store.sets.launchers(0) == []
    assert store.client.exists(store.keys.live(0), store.keys.workers(0)) == 0


def test_of_many_requests_at_once_one_is_taken(store: Store) -> None:
    outcomes: list[str] = []

    def ask() -> None:
        try:
            store.sets.request(0, spec(), server=NODE, requester=None, timeout=60.0)
            outcomes.append("taken")
        except StateConflictError:
            outcomes.append("refused")

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 7 + ["taken"]
    assert len(store.history.events()) == 1


# -- transition ---------------------------------------------------------------------------------------------


def test_a_change_of_state_counts_the_version_and_tells_why(store: Store) -> None:
    before = requested(store)
    after = store.sets.transition(before, State.SUBMITTING, "because", token="t", attempts=2)
    assert after is not None
    assert (after.version, after.state, after.token, after.attempts) == (before.version + 1, State.SUBMITTING, "t", 2)
    assert after.changed_at >= before.changed_at
    assert after.submitted_at == after.changed_at
    assert states_told(store)[-1] == ("requested", "submitting", "because")


def test_a_change_on_stale_knowledge_is_refused_and_nothing_is_written(store: Store) -> None:
    stale = requested(store)
    fresh = store.sets.transition(stale, State.SUBMITTING, "first")
    assert store.sets.transition(stale, State.FAILED, "late") is None
    assert store.sets.transition(stale, State.FAILED, "late", expected=OPEN) is None
    assert current(store) == fresh
    assert len(store.history.events()) == 2


def test_a_change_may_leave_the_version_out_but_never_the_generation(store: Store) -> None:
    old = requested(store)
    store.sets.transition(old, State.SUBMITTING, "on")
    assert store.sets.transition(old, State.RELEASING, "whatever came between", expected=OPEN, check_version=False)
    end(store)
    requested(store)
    assert store.sets.transition(old, State.RELEASING, "too late", expected=OPEN, check_version=False) is None


def test_a_set_that_is_unknown_cannot_change(store: Store) -> None:
    record = requested(store)
    store.client.delete(store.keys.resource_set(0))
    assert store.sets.transition(record, State.FAILED, "x", check_version=False) is None
    assert not store.client.exists(store.keys.resource_set(0))


def test_of_many_changes_at_once_one_wins(store: Store) -> None:
    record = requested(store)
    won: list[object] = []
    threads = [
        threading.Thread(target=lambda: won.append(store.sets.transition(record, State.SUBMITTING, "mine")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(outcome is not None for outcome in won) == 1
    assert current(store).version == record.version + 1


@pytest.mark.parametrize("final", sorted(ENDED))
def test_all_keys_of_an_ended_set_have_an_end(store: Store, final: State) -> None:
    workers = registered(store)
    store.workers.set_states(0, {workers[0].member: "stopped"})
    end(store, to=final)
    keys = store.keys
    for key in (keys.resource_set(0), keys.live(0), keys.workers(0), keys.states(0), keys.launchers(0)):
        assert KEEP_ENDED - 5 <= store.client.ttl(key) <= KEEP_ENDED, key
    assert current(store).ended_at > 0
    assert current(store).expected == 0


# -- launchers ----------------------------------------------------------------------------------------------


def test_a_launcher_that_attaches_starts_the_set_and_its_deadline(store: Store) -> None:
    launched(store, runtime=90)
    got = store.sets.attach(0, generation=1, token="token", node=NODE, nonce="n", identity=me())
    assert not isinstance(got, str)
    assert got.record.state is State.STARTING
    assert got.record.deadline - got.server_time == pytest.approx(90, abs=0.001)
    assert [(one.node, one.token, one.nonce, one.identity) for one in store.sets.launchers(0)] == [
        (NODE, "token", "n", me())
    ]


def test_attaching_again_changes_nothing(store: Store) -> None:
    attached(store)
    before = current(store)
    again = store.sets.attach(0, generation=1, token="token", node=NODE, nonce="nonce", identity=me())
    assert not isinstance(again, str)
    assert again.record == before
    assert len(store.history.events()) == 3


def test_a_second_launcher_of_the_launch_is_turned_away_from_the_node_but_not_from_another(store: Store) -> None:
    attached(store)
    first = current(store).deadline
    assert "another launcher" in str(
        store.sets.attach(0, generation=1, token="token", node=NODE, nonce="2", identity=me())
    )
    attached(store, node="node-2")
    assert {one.node for one in store.sets.launchers(0)} == {NODE, "node-2"}
    assert current(store).deadline == first


def test_a_newer_launch_takes_the_node_and_the_older_is_fenced(store: Store) -> None:
    old = attached(store)
    store.sets.transition(current(store), State.SUBMITTING, "again", token="newer")
    new = attached(store, nonce="other")
    assert store.workers.register(0, 1, NODE, old, [worker(0)]) == "fenced"
    assert store.workers.beat(0, 1, NODE, old, [])[0] == "fenced"
    assert not store.sets.detach(0, generation=1, node=NODE, owner=old, final=None, why="")
    assert store.workers.beat(0, 1, NODE, new, [])[0] == "ok"


@pytest.mark.parametrize(("changes", "why"), [({"generation": 2}, "newer request"), ({"token": "old"}, "newer launch")])
def test_a_launcher_of_another_request_or_launch_must_go(store: Store, changes: dict[str, object], why: str) -> None:
    launched(store)
    arguments = {"generation": 1, "token": "token", "node": NODE, "nonce": "n", "identity": me()} | changes
    assert why in str(store.sets.attach(0, **arguments))
    assert store.sets.launchers(0) == []


@pytest.mark.parametrize("state", [State.REQUESTED, State.DRAINING, State.RELEASING, *sorted(ENDED)])
def test_a_launcher_is_not_wanted_in_any_other_state(store: Store, state: State) -> None:
    store.sets.transition(launched(store), state, "x")
    assert state.value in str(store.sets.attach(0, generation=1, token="token", node=NODE, nonce="n", identity=me()))
    assert "unknown" in str(store.sets.attach(7, generation=1, token="token", node=NODE, nonce="n", identity=me()))


def test_the_last_launcher_to_go_says_how_the_set_ended(store: Store) -> None:
    one, two = attached(store), attached(store, node="node-2", nonce="m")
    assert store.sets.detach(0, generation=1, node=NODE, owner=one, final=State.FAILED, why="crashed")
    assert current(store).state is State.STARTING
    assert store.sets.detach(0, generation=1, node="node-2", owner=two, final=State.FAILED, why="crashed too")
    record = current(store)
    assert (record.state, record.error) == (State.FAILED, "crashed too")
    assert record.ended_at > 0
    assert 0 < store.client.ttl(store.keys.resource_set(0)) <= KEEP_ENDED
    assert not store.sets.detach(0, generation=1, node="node-2", owner=two, final=State.FAILED, why="again")


def test_a_launcher_that_goes_during_a_release_leaves_the_last_word_to_the_release(store: Store) -> None:
    owner = attached(store)
    store.sets.transition(current(store), State.RELEASING, "x")
    assert store.sets.detach(0, generation=1, node=NODE, owner=owner, final=State.EXPIRED, why="x")
    assert current(store).state is State.RELEASING
    assert store.sets.launchers(0) == []


# -- lost and forgotten -------------------------------------------------------------------------------------


def restore(store: Store, record: object, owner: str = "token:nonce:") -> str:
    return store.sets.restore(record, node=NODE, owner=owner, identity=me(), fields=encode_resource_set(record))  # type: ignore[arg-type]


def test_a_set_that_redis_lost_is_brought_back_whole_by_its_launcher(store: Store) -> None:
    registered(store)
    before = current(store)
    store.client.delete(*store.client.keys(f"{store.keys.root}:*"))
    assert store.workers.beat(0, 1, NODE, "token:nonce:", [])[0] == "vanished"
    assert restore(store, before) == "ok"
    after = current(store)
    assert (after.state, after.generation, after.token, after.spec) == (State.ACTIVE, 1, "token", before.spec)
    assert store.sets.ids() == [0]
    assert "restored" in states_told(store)[-1][2]
    assert restore(store, before) == "ok"
    assert len(store.history.events()) == 1


def test_a_launcher_cannot_bring_back_what_was_forgotten_or_what_a_newer_one_has(store: Store) -> None:
    registered(store)
    before = current(store)
    assert restore(store, before, "older:nonce:") == "fenced"
    assert restore(store, before, "token:other:") == "fenced"
    store.client.delete(store.keys.live(0))
    end(store)
    store.sets.forget(0)
    assert restore(store, before) == "forgotten"
    assert store.sets.get(0) is None


def test_forgetting_leaves_a_tombstone_and_nothing_else(store: Store) -> None:
    members = [one.member for one in registered(store)]
    store.workers.set_states(0, {members[0]: "stopped"})
    with pytest.raises(StateConflictError, match="active with 2"):
        store.sets.forget(0)
    end(store)
    with pytest.raises(StateConflictError, match="released with 2"):
        store.sets.forget(0)
    expire(store, members)
    store.sets.forget(0)
    store.sets.forget(0)
    assert sorted(store.client.keys(f"{store.keys.root}:*")) == sorted(
        key.encode() for key in (store.keys.tombstone(0), store.keys.events)
    )
    assert TOMBSTONE - 5 <= store.client.ttl(store.keys.tombstone(0)) <= TOMBSTONE
    assert store.sets.request(0, spec(), server=NODE, requester=None, timeout=1.0) == (1, 1)
    assert not store.client.exists(store.keys.tombstone(0))


def test_a_case_with_one_open_set_is_not_forgotten_at_all(store: Store) -> None:
    requested(store, 0)
    end(store, 0)
    requested(store, 1)
    with pytest.raises(StateConflictError, match="1 of case"):
        store.forget()
    assert current(store, 0).state is State.RELEASED
    end(store, 1)
    store.forget()
    assert {key.decode() for key in store.client.keys(f"{store.keys.root}:*")} == {
        store.keys.tombstone(0),
        store.keys.tombstone(1),
    }


def test_forgetting_one_case_leaves_the_others(store: Store) -> None:
    other = Store(store.client, f"{store.case}-2", "other")
    requested(other)
    store.forget()
    assert current(other).state is State.REQUESTED


def test_trimming_drops_what_belongs_to_sets_whose_hash_is_gone(store: Store) -> None:
    requested(store, 0)
    registered(store, 2, 1)
    store.client.delete(store.keys.resource_set(1))
    store.sets.trim()
    assert store.sets.ids() == [0]
    assert not store.client.exists(store.keys.workers(1), store.keys.launchers(1))
    assert current(store, 0).state is State.REQUESTED


def test_a_note_is_made_only_on_a_set_that_exists(store: Store) -> None:
    requested(store)
    store.sets.note(0, pending_reason="Priority")
    store.sets.note(5, pending_reason="Priority")
    assert current(store).pending_reason == "Priority"
    assert current(store).version == 1
    assert not store.client.exists(store.keys.resource_set(5))


def test_one_set_of_garbage_need_not_hide_the_others(store: Store) -> None:
    for wgroup_id in range(4):
        requested(store, wgroup_id)
    store.client.hset(store.keys.resource_set(1), "nworkers", "many")
    store.client.set(store.keys.resource_set(2), "a string")
    records, errors = store.sets.readable()
    assert [record.wgroup_id for record in records] == [0, 3]
    assert ["resource_set:1" in str(errors[0]), "resource_set:2" in str(errors[1])] == [True, True]
    with pytest.raises(SerializationError, match="'nworkers'"):
        store.sets.all()


def test_a_key_of_another_type_is_an_error_that_names_it(store: Store) -> None:
    requested(store)
    store.client.set(store.keys.resource_set(0), "a string")
    for look in (lambda: store.sets.get(0), store.sets.all):
        with pytest.raises(Exception, match=r"resource_set:0.*WRONGTYPE"):
            look()
    store.client.delete(store.keys.resource_set(0))
    store.client.hset(store.keys.resource_set(0), "schema", "9")
    with pytest.raises(SerializationError, match="schema 9"):
        store.sets.get(0)
