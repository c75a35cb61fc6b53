"""The signed envelope of an operation: what a provisioner needs to see before it does anything.

Layout: ``GS1`` | key id (16 ASCII bytes) | HMAC-SHA256 (32 bytes) over everything else | body (msgpack).
The MAC is checked over the exact bytes before anything in them is decoded. The body is bound to case, queue, job id,
operation and expiry; its nonce is burnt by the provisioner, so an envelope works once (RFC 2104; rulings 12).
"""

from __future__ import annotations

import hmac
import math
import secrets
from dataclasses import asdict, dataclass, field
from typing import Any

from gutscore_rs.access import Access
from gutscore_rs.errors import OperationRefusedError, SerializationError
from gutscore_rs.signature import mac
from gutscore_rs.store.records import pack, unpack_map

MAGIC = b"GS1"
_KEY_ID_END = len(MAGIC) + 16
_MAC_END = _KEY_ID_END + 32
MAX_BYTES = 65536
# The kinds of operation that exist; a provisioner's table of functions has exactly these.
KINDS = ("request", "release", "reconcile")


@dataclass(frozen=True, slots=True)
class Operation:
    """An order to a provisioner.

    Attributes:
        kind: One of :data:`KINDS`.
        case: The case it belongs to.
        queue: The queue it travels on.
        job_id: The RQ job that carries it.
        wgroup_id: The resource set, -1 for all.
        generation: Request of the set that it is about.
        version: Version of the set that it is about.
        issued: Server seconds.
        expires: Server seconds after which it is refused.
    """

    kind: str
    case: str
    queue: str
    job_id: str
    wgroup_id: int
    generation: int
    version: int
    issued: float
    expires: float
    nonce: str = field(default_factory=lambda: secrets.token_hex(16))


def seal(operation: Operation, access: Access) -> bytes:
    """Sign an operation with the case's key."""
    head = MAGIC + access.key_id.encode("ascii")
    body = pack(asdict(operation))
    return head + mac(access.signing_key, head + body) + body


def unseal(sealed: bytes, access: Access, *, job_id: str, queue: str, now: float) -> Operation:
    """Check an envelope and open it.

    Args:
        sealed: The envelope's bytes.
        access: Whose key must have signed it.
        job_id: The RQ job that brought it.
        queue: The queue it came from.
        now: Server seconds.

    Raises:
        OperationRefusedError: It is forged, damaged, of another case, queue or job, expired, or of unknown kind.
    """
    if len(sealed) > MAX_BYTES or len(sealed) <= _MAC_END or not sealed.startswith(MAGIC):
        raise OperationRefusedError(f"Job {job_id} on {queue} carries no operation of ours; it is refused.")
    head, code, body = sealed[:_KEY_ID_END], sealed[_KEY_ID_END:_MAC_END], sealed[_MAC_END:]
    ours = head == MAGIC + access.key_id.encode("ascii")
    if not ours or not hmac.compare_digest(code, mac(access.signing_key, head + body)):
        raise OperationRefusedError(
            f"The operation in job {job_id} on {queue} is not signed with the key of case {access.case!r}; it is "
            "refused. Whoever sent it needs this case's access file."
        )
    operation = _decode(body, job_id)
    for name, wanted, theirs in (
        ("case", access.case, operation.case),
        ("queue", queue, operation.queue),
        ("job", job_id, operation.job_id),
    ):
        if wanted != theirs:
            raise OperationRefusedError(
                f"The operation in job {job_id} was signed for {name} {theirs!r}, not {wanted!r}; it is refused."
            )
    if operation.kind not in KINDS:
        raise OperationRefusedError(f"Job {job_id} asks for the unknown operation {operation.kind!r}; it is refused.")
    if now > operation.expires:
        raise OperationRefusedError(
            f"The operation {operation.kind} in job {job_id} expired {now - operation.expires:.0f} s ago; it is "
            "refused."
        )
    return operation


def _decode(body: bytes, job_id: str) -> Operation:
    try:
        fields: dict[str, Any] = unpack_map(body, f"operation in job {job_id}")
        operation = Operation(
            kind=str(fields["kind"]),
            case=str(fields["case"]),
            queue=str(fields["queue"]),
            job_id=str(fields["job_id"]),
            wgroup_id=int(fields["wgroup_id"]),
            generation=int(fields["generation"]),
            version=int(fields["version"]),
            issued=float(fields["issued"]),
            expires=float(fields["expires"]),
            nonce=str(fields["nonce"]),
        )
        if not math.isfinite(operation.issued) or not math.isfinite(operation.expires):
            raise ValueError("a time that is none")  # noqa: TRY301 - told like the other errors of a field
    except (SerializationError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise OperationRefusedError(f"The operation in job {job_id} is garbled: {error!r}; it is refused.") from error
    return operation
