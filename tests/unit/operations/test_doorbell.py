"""The bell: a job that any RQ client can see, rung as often as one likes."""

from __future__ import annotations

from rq import Queue
from rq.job import Job, JobStatus
from support.records import NODE, current, requested

from gutscore_rs.access import Access
from gutscore_rs.operations.doorbell import VALIDITY, MsgpackSerializer, ring, sealed_operation
from gutscore_rs.operations.envelope import unseal
from gutscore_rs.store import Store, operations_queue
from gutscore_rs.store.records import State


def access(store: Store) -> Access:
    return Access.new(store.case, socket="/s")


def entries(store: Store) -> list[bytes]:
    return list(store.client.lrange(store.rq_keys.queue(operations_queue(store.case, NODE)), 0, -1))


def test_a_ring_brings_the_signed_operation_to_whoever_serves_the_set(store: Store) -> None:
    key, record = access(store), requested(store, 4)
    job_id = ring(store, key, "request", record)
    claim = store.jobs.claim([operations_queue(store.case, NODE)], "provisioner")
    assert claim is not None
    operation = unseal(
        sealed_operation(claim.fields[b"data"], job_id), key, job_id=job_id, queue=claim.queue, now=store.time()
    )
    assert (operation.kind, operation.wgroup_id, operation.generation, operation.version) == (
        "request",
        4,
        record.generation,
        record.version,
    )
    assert 0 < operation.expires - store.time() <= VALIDITY


def test_ringing_twice_leaves_one_entry(store: Store) -> None:
    key, record = access(store), requested(store)
    assert ring(store, key, "request", record) == ring(store, key, "request", record)
    assert len(entries(store)) == 1


def test_another_version_kind_or_set_is_another_entry(store: Store) -> None:
    key, record = access(store), requested(store, 0)
    ring(store, key, "request", record)
    ring(store, key, "release", record)
    changed = store.sets.transition(current(store), State.RELEASING, "x")
    assert changed is not None
    ring(store, key, "release", changed)
    ring(store, key, "request", requested(store, 1))
    assert len(set(entries(store))) == len(entries(store)) == 4


def test_an_operation_is_no_pickle_and_ends_by_itself(store: Store) -> None:
    job_id = ring(store, access(store), "request", requested(store))
    job = Job.fetch(job_id, connection=store.client, serializer=MsgpackSerializer)
    assert job.get_status() is JobStatus.QUEUED
    assert job.description == "request resource set 0"
    assert 0 < store.client.ttl(job.key) <= VALIDITY
    assert store.client.hget(job.key, "data")[:1] != b"\x80"
    assert Queue(job.origin, connection=store.client, serializer=MsgpackSerializer).job_ids == [job_id]


def test_an_operation_that_failed_can_be_rung_again(store: Store) -> None:
    key, record = access(store), requested(store)
    ring(store, key, "request", record)
    queue = operations_queue(store.case, NODE)
    claim = store.jobs.claim([queue], "provisioner")
    assert claim is not None
    store.jobs.fail(claim, text="x", ttl=60)
    ring(store, key, "request", record)
    again = store.jobs.claim([queue], "provisioner")
    assert again is not None
    assert again.execution != claim.execution
    assert store.jobs.finish(again, result=b"", result_ttl=60, worked=0.0) == "ok"
