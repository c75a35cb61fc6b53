"""A reply that is lost makes redis-py send the script again: each must have happened exactly once all the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rq import Queue
from support import jobs as tasks
from support.proxy import DroppingProxy
from support.records import NODE, attached, current, launched, me, registered, requested, spec, worker
from support.servers import Server

from gutscore_rs.access import Access
from gutscore_rs.store import CallRecord, End, NewJob, Store
from gutscore_rs.store.records import ProvisionerRecord, State
from gutscore_rs.store.workers import Departure


@pytest.fixture
def proxy(any_server: Server) -> Iterator[DroppingProxy]:
    made = DroppingProxy(any_server.socket)
    yield made
    made.close()


@pytest.fixture
def remote(store: Store, proxy: DroppingProxy) -> Iterator[Store]:
    """The store of the same case behind the proxy, with the retries of production."""
    made = Store.open(Access.new(store.case, socket=str(proxy.socket)))
    made.ping()
    yield made
    assert proxy.dropped == 1
    made.close()


def test_a_request_is_made_once(store: Store, remote: Store, proxy: DroppingProxy) -> None:
    proxy.drop_next_reply()
    assert remote.sets.request(0, spec(), server=NODE, requester=None, timeout=60.0) == (1, 1)
    assert len(store.history.events()) == 1


def test_a_change_of_state_is_made_once(store: Store, remote: Store, proxy: DroppingProxy) -> None:
    record = requested(store)
    proxy.drop_next_reply()
    changed = remote.sets.transition(record, State.SUBMITTING, "x")
    assert changed is not None
    assert (changed.version, len(store.history.events())) == (record.version + 1, 2)


def test_a_launcher_attaches_once(store: Store, remote: Store, proxy: DroppingProxy) -> None:
    launched(store)
    proxy.drop_next_reply()
    assert not isinstance(remote.sets.attach(0, generation=1, token="token", node=NODE, nonce="n", identity=me()), str)
    assert current(store).version == 3
    assert len(store.history.events()) == 3


def test_workers_register_once(store: Store, remote: Store, proxy: DroppingProxy) -> None:
    owner = attached(store)
    proxy.drop_next_reply()
    assert remote.workers.register(0, 1, NODE, owner, [worker(0), worker(1)]) == "ok"
    assert store.workers.count(0) == 2
    assert [event.fields["state"] for event in store.history.events()].count("active") == 1


def test_a_beat_beats(store: Store, remote: Store, proxy: DroppingProxy) -> None:
    members = [one.member for one in registered(store)]
    proxy.drop_next_reply()
    order, _, missing = remote.workers.beat(0, 1, NODE, "token:nonce:", members)
    assert (order, missing) == ("ok", [])


def test_a_death_is_told_once(store: Store, remote: Store, proxy: DroppingProxy) -> None:
    member = registered(store)[0].member
    proxy.drop_next_reply()
    remote.workers.leave(0, [Departure(member, NODE, 1, "killed")])
    assert (store.workers.count(0), len(store.history.lost())) == (1, 1)


def test_a_launcher_detaches_once(store: Store, remote: Store, proxy: DroppingProxy) -> None:
    owner = attached(store)
    proxy.drop_next_reply()
    remote.sets.detach(0, generation=1, node=NODE, owner=owner, final=State.EXPIRED, why="over")
    assert current(store).state is State.EXPIRED
    assert [event.fields["state"] for event in store.history.events()].count("expired") == 1


def test_a_claim_takes_one_job(store: Store, remote: Store, proxy: DroppingProxy) -> None:
    queue = Queue(f"{store.case}:tasks", connection=store.client)
    ids = [queue.enqueue(tasks.square, n).id for n in range(3)]
    proxy.drop_next_reply()
    got = remote.jobs.claim([queue.name], "w")
    assert got is not None
    assert got.job_id == ids[0]
    assert queue.job_ids == ids[1:]
    assert store.jobs.held_by("w") == [(ids[0], got.execution, queue.name)]


@pytest.mark.parametrize("way", ["finish", "fail", "put_back"])
def test_an_end_is_booked_once(store: Store, remote: Store, proxy: DroppingProxy, way: str) -> None:
    queue = Queue(f"{store.case}:tasks", connection=store.client)
    job = queue.enqueue(tasks.square, 3)
    got = store.jobs.claim([queue.name], "w")
    assert got is not None
    proxy.drop_next_reply()
    if way == "finish":
        assert remote.jobs.finish(got, result=b"", result_ttl=60, worked=0.1) == "ok"
    elif way == "fail":
        assert remote.jobs.fail(got, text="x", ttl=60) == "ok"
    else:
        assert remote.jobs.put_back(job.id, got.execution, queue.name, "w") == "ok"
    assert len(job.results()) == (0 if way == "put_back" else 1)
    assert queue.job_ids == ([job.id] if way == "put_back" else [])
    tallies = store.client.hmget(store.rq_keys.worker("w"), "successful_job_count", "failed_job_count")
    assert tallies == {"finish": [b"1", None], "fail": [None, b"1"], "put_back": [None, None]}[way]


def test_a_put_back_whose_reply_is_lost_leaves_the_next_owner_alone(
    store: Store, remote: Store, proxy: DroppingProxy
) -> None:
    queue = Queue(f"{store.case}:tasks", connection=store.client)
    job = queue.enqueue(tasks.square, 3)
    old = store.jobs.claim([queue.name], "old")
    assert old is not None
    proxy.drop_next_reply()
    remote.jobs.put_back(job.id, old.execution, queue.name, "old")
    new = store.jobs.claim([queue.name], "new")
    assert new is not None
    assert store.jobs.put_back(job.id, old.execution, queue.name, "old") == "ok"
    assert store.jobs.holds(new)
    assert queue.job_ids == []


def test_a_nonce_is_burnt_for_the_same_job_again(store: Store, remote: Store, proxy: DroppingProxy) -> None:
    proxy.drop_next_reply(to=b"NONCE")
    assert remote.provisioners.burn("n", "job", 60.0)
    assert not store.provisioners.burn("n", "another job", 60.0)


def test_leases_and_provisioners_are_taken_once(store: Store, remote: Store, proxy: DroppingProxy) -> None:
    proxy.drop_next_reply()
    assert remote.provisioners.take_duty("reaper", "me", 60.0)
    assert not store.provisioners.take_duty("reaper", "you", 60.0)
    remote.provisioners.beat(ProvisionerRecord("m", NODE, 1, (NODE,), 1.0, "1"))
    assert len(store.provisioners.alive()) == 1


def test_a_batch_is_taken_and_booked_once_over_a_line(store: Store, remote: Store, proxy: DroppingProxy) -> None:
    queue = Queue(f"{store.case}:tasks", connection=store.client)
    ids = [queue.enqueue(tasks.square, n).id for n in range(8)]
    remote.jobs.keep_line()
    claims = remote.jobs.exchange([queue.name], "w", most=3).claims
    ends = [End(one.queue, one.job_id, one.execution, 60, 1.0, 2.0, b"") for one in claims]
    proxy.drop_next_reply()
    got = remote.jobs.exchange([queue.name], "w", ends, most=2, worked=3.0)
    assert got.outcomes == ["ok"] * 3
    assert [one.job_id for one in got.claims] == ids[3:5]
    assert queue.job_ids == ids[5:]
    assert store.client.hget(store.rq_keys.worker("w"), "successful_job_count") == b"3"


def test_calls_are_enqueued_once(store: Store, remote: Store, proxy: DroppingProxy) -> None:
    queue = Queue(f"{store.case}:tasks", connection=store.client)
    line = remote.calls.open_line()
    remote.calls.submission("e", 1, queue.name, [CallRecord("x-1", b"d")]).finish(line)
    submission = remote.calls.submission("e", 2, queue.name, [CallRecord("x-2", b"d"), CallRecord("x-3", b"d")])
    proxy.drop_next_reply()
    submission.ask(line)
    assert submission.finish(line) == 0
    assert queue.job_ids == ["x-1", "x-2", "x-3"]
    line.close()


def test_no_result_is_lost_on_its_way_to_an_executor(store: Store, remote: Store, proxy: DroppingProxy) -> None:
    replies = remote.calls.replies("e")
    store.client.xadd(store.keys.replies("e"), {"x-1": b"result"})
    proxy.drop_next_reply(to=b"XREAD")
    replies.ask(5.0)
    assert replies.take() == {"x-1": b"result"}
    replies.close()


def test_jobs_are_enqueued_once(store: Store, remote: Store, proxy: DroppingProxy) -> None:
    queue = Queue(f"{store.case}:tasks", connection=store.client)
    proxy.drop_next_reply()
    remote.new_jobs.enqueue(queue.name, [NewJob(f"j{n}", b"d", "") for n in range(3)])
    assert queue.job_ids == ["j0", "j1", "j2"]


def test_an_execution_is_recorded_once(store: Store, remote: Store, proxy: DroppingProxy) -> None:
    queue = Queue(f"{store.case}:tasks", connection=store.client)
    job = queue.enqueue(tasks.square, 3)
    got = store.jobs.claim([queue.name], "w")
    assert got is not None
    proxy.drop_next_reply()
    remote.jobs.record_execution(job.id, got.execution, "w", queue.name)
    assert [one.id for one in job.get_executions()] == [got.execution]


def test_what_was_taken_back_stays_so(store: Store, remote: Store, proxy: DroppingProxy) -> None:
    queue = Queue(f"{store.case}:tasks", connection=store.client)
    line = store.calls.open_line()
    store.calls.submission("e", 1, queue.name, [CallRecord("x-1", b"d")]).finish(line)
    line.close()
    proxy.drop_next_reply()
    assert remote.calls.cancel(queue.name, ["x-1"]) == [True]
    assert queue.job_ids == []
    assert 0 < store.client.ttl("rq:job:x-1") <= 15
