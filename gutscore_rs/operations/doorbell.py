"""Operations as RQ jobs: the resource set's hash is the truth, the job only rings the bell (rulings 11).

Ringing twice is harmless: the job id comes from case, set and version, and a provisioner acts only on a set
that still has that version.
"""

from __future__ import annotations

import zlib
from typing import Any

import msgpack
from rq import Queue

from gutscore_rs.access import Access
from gutscore_rs.errors import OperationRefusedError
from gutscore_rs.operations.envelope import MAX_BYTES, Operation, seal
from gutscore_rs.store import Store, operations_queue
from gutscore_rs.store.connection import translated
from gutscore_rs.store.records import ResourceSetRecord

CARRY_OUT = "gutscore_rs.operations.carry_out"
RESULT_TTL, FAILURE_TTL = 3600, 86400
# An operation may wait this long for a provisioner; reconcile rings again for what still wants to be done.
VALIDITY = 600.0


class MsgpackSerializer:
    """RQ's serializer interface over msgpack: plain data only, nothing that could run."""

    @staticmethod
    def dumps(value: Any) -> bytes:
        """Bytes of plain data."""
        return bytes(msgpack.packb(value, use_bin_type=True))

    @staticmethod
    def loads(data: bytes) -> Any:
        """Plain data."""
        return msgpack.unpackb(data, raw=False, strict_map_key=True)


def ring(store: Store, access: Access, kind: str, record: ResourceSetRecord) -> str:
    """Enqueue an operation on a set for whoever serves its host or cluster.

    Returns:
        The RQ job's id.
    """
    queue_name = operations_queue(store.case, record.server)
    job_id = f"op-{store.case}-{record.wgroup_id}-{record.generation}-{record.version}-{kind}"
    now = store.time()
    operation = Operation(
        kind=kind,
        case=store.case,
        queue=queue_name,
        job_id=job_id,
        wgroup_id=record.wgroup_id,
        generation=record.generation,
        version=record.version,
        issued=now,
        expires=now + VALIDITY,
    )
    with translated(store.where):
        queue = Queue(queue_name, connection=store.client, serializer=MsgpackSerializer)
        # An earlier ring that nobody answered would otherwise stand in the list twice.
        store.client.lrem(store.rq_keys.queue(queue_name), 0, job_id)
        queue.enqueue_call(
            CARRY_OUT,
            args=(seal(operation, access),),
            job_id=job_id,
            timeout=300,
            result_ttl=RESULT_TTL,
            failure_ttl=FAILURE_TTL,
            ttl=int(VALIDITY),
            description=f"{kind} resource set {record.wgroup_id}",
        )
    return job_id


def sealed_operation(data: bytes, job_id: str) -> bytes:
    """The envelope in an RQ job's ``data`` field; nothing in it is trusted or imported.

    Raises:
        OperationRefusedError: The job is no operation of ours, or too large.
    """
    refused = f"Job {job_id} is no operation of gutscore_rs; it is refused. Tasks belong on the case's task queues."
    unpacker = zlib.decompressobj()
    try:
        plain = unpacker.decompress(data, MAX_BYTES)
    except zlib.error:
        plain = data[:MAX_BYTES]
    try:
        call = msgpack.unpackb(plain, raw=False, strict_map_key=True)
    except Exception as error:
        raise OperationRefusedError(refused) from error
    match call:
        case [str(name), None, [bytes(sealed)], dict(keywords)] if name == CARRY_OUT and not keywords:
            return sealed
    raise OperationRefusedError(refused)
