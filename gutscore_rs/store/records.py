"""What stands in Redis, as frozen records. Records are data; the store acts.

Decoding is strict: garbage in a key gives a :class:`SerializationError` that names key and field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgpack

from gutscore_rs.errors import SerializationError
from gutscore_rs.identity import ProcessIdentity

SCHEMA = 1
# Bounds for what somebody else may have written into Redis.
MAX_PACKED_BYTES = 1_000_000
LARGEST = 1e15


class State(StrEnum):
    """States of a resource set, in the order of a life."""

    DESCRIBED = "described"
    REQUESTED = "requested"
    SUBMITTING = "submitting"
    PENDING = "pending"
    STARTING = "starting"
    ACTIVE = "active"
    DRAINING = "draining"
    RELEASING = "releasing"
    RELEASED = "released"
    FAILED = "failed"
    EXPIRED = "expired"

    @property
    def ended(self) -> bool:
        """Whether nothing more can come of it without a new request."""
        return self in ENDED


ENDED = frozenset({State.RELEASED, State.FAILED, State.EXPIRED})
# Sets whose workers are wanted: `expected` counts these (rulings 23).
WANTED = frozenset({State.REQUESTED, State.SUBMITTING, State.PENDING, State.STARTING, State.ACTIVE})
OPEN = frozenset(State) - ENDED - {State.DESCRIBED}


def pack(value: Any) -> bytes:
    """Msgpack of plain data."""
    return bytes(msgpack.packb(value, use_bin_type=True))


def unpack(data: bytes, where: str) -> Any:
    """Plain data from msgpack of unknown origin.

    Raises:
        SerializationError: It is no msgpack, or too large.
    """
    if len(data) > MAX_PACKED_BYTES:
        raise SerializationError(f"{where} holds {len(data)} bytes; at most {MAX_PACKED_BYTES} are read.")
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=True)
    except Exception as error:
        raise SerializationError(f"{where} holds no valid msgpack ({error}); it was not written by us.") from error


def unpack_map(data: bytes, where: str) -> dict[str, Any]:
    """As :func:`unpack`, for a map with text keys."""
    value = unpack(data, where)
    if not isinstance(value, dict):
        raise SerializationError(f"{where} holds a {type(value).__name__} where a map belongs.")
    return value


def name_of(raw: bytes) -> str:
    """A member or field name that anybody may have written; ``raw_name`` gives the same bytes again."""
    return raw.decode("utf-8", "surrogateescape")


def raw_name(name: str) -> bytes:
    """The inverse of :func:`name_of`."""
    return name.encode("utf-8", "surrogateescape")


def text_of(value: bytes | str) -> str:
    """Text that somebody may have written; bytes that are no UTF-8 are shown, never an error."""
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


@dataclass(frozen=True, slots=True)
class ResourceSetRecord:
    """One resource set as Redis holds it; times are server seconds, 0.0 = not yet.

    Attributes:
        server: The host (local) or cluster (Slurm) whose provisioner serves it.
        token: Names the newest launch; its launchers carry it. Of Slurm, ``<submission>`` before the first launcher
            attached, ``<submission>.<job>r<restarts>`` then.
        attempts: Failed tries of the operation that is under way.
        launches: How often launchers were started for this request.
        requester: The process whose end ends the set, or None.
        slurm_job: Id of the Slurm job, ``123`` or ``123_4``; empty: not known.
        slurm_task: Index of the set within its submission.
        missing_since: The first look at Slurm's queue that did not show its job; 0.0: the newest did.
        seal: Signature of the description, see ``signature.sign_description``.
        spec: The description, see ``config.Description.to_spec``.
    """

    wgroup_id: int
    type: str
    state: State
    version: int
    generation: int
    nworkers: int
    runtime: int
    daemonize: bool
    server: str
    token: str = ""
    attempts: int = 0
    launches: int = 0
    requested_at: float = 0.0
    expires_at: float = 0.0
    submitted_at: float = 0.0
    started_at: float = 0.0
    ended_at: float = 0.0
    changed_at: float = 0.0
    deadline: float = 0.0
    next_try_at: float = 0.0
    error: str = ""
    pending_reason: str = ""
    peak_active: int = 0
    requester: ProcessIdentity | None = None
    slurm_job: str = ""
    slurm_task: int = 0
    missing_since: float = 0.0
    seal: str = ""
    spec: dict[str, Any] = field(default_factory=dict)

    @property
    def expected(self) -> int:
        """Workers that should be alive; 0 once the set is being released or ended."""
        return self.nworkers if self.state in WANTED else 0


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """A start of a Slurm job, as a launcher in it sees it.

    Attributes:
        name: ``<job id>``, or ``<array job id>_<task>``.
        restarts: How often it was requeued (``SLURM_RESTART_COUNT``).
        end: Server seconds of its time limit; 0.0: unknown.
    """

    name: str
    restarts: int = 0
    end: float = 0.0


class _Fields:
    """Typed reads from a hash that anybody may have written to."""

    def __init__(self, raw: Mapping[bytes, bytes], key: str) -> None:
        self._raw = raw
        self._key = key

    def bytes(self, name: str) -> bytes:
        return self._raw.get(name.encode(), b"")

    def text(self, name: str) -> str:
        return text_of(self.bytes(name))

    def integer(self, name: str, default: int = 0) -> int:
        return int(self._number(name, default))

    def number(self, name: str) -> float:
        return self._number(name, 0)

    def _number(self, name: str, default: float) -> float:
        raw = self.text(name)
        try:
            value = float(raw) if raw else float(default)
        except ValueError:
            value = float("nan")
        if not abs(value) < LARGEST:  # also catches NaN
            raise SerializationError(
                f"Field {name!r} of {self._key} holds {raw[:60]!r} where a number belongs. Was it edited by hand? "
                "`gutscore-rs forget` removes the case."
            )
        return value


def decode_resource_set(wgroup_id: int, raw: Mapping[bytes, bytes], key: str) -> ResourceSetRecord:
    """A record from the set's hash.

    Raises:
        SerializationError: A field is missing, of another type, or of a schema that this version does not know.
    """
    fields = _Fields(raw, key)
    schema = fields.integer("schema")
    if schema != SCHEMA:
        raise SerializationError(
            f"{key} has schema {schema or fields.text('schema')!r}; this version reads schema {SCHEMA}. "
            "Use the version of gutscore_rs that wrote it."
        )
    state = fields.text("state")
    if state not in State.__members__.values():
        raise SerializationError(f"{key} has the unknown state {state[:60]!r}.")
    requester = fields.bytes("requester")
    spec = fields.bytes("spec")
    return ResourceSetRecord(
        wgroup_id=wgroup_id,
        type=fields.text("type"),
        state=State(state),
        version=fields.integer("version"),
        generation=fields.integer("generation"),
        nworkers=fields.integer("nworkers"),
        runtime=fields.integer("runtime"),
        daemonize=fields.text("daemonize") == "1",
        server=fields.text("host") or fields.text("cluster"),
        token=fields.text("token"),
        attempts=fields.integer("attempts"),
        launches=fields.integer("launches"),
        requested_at=fields.number("requested_at"),
        expires_at=fields.number("expires_at"),
        submitted_at=fields.number("submitted_at"),
        started_at=fields.number("started_at"),
        ended_at=fields.number("ended_at"),
        changed_at=fields.number("changed_at"),
        deadline=fields.number("deadline"),
        next_try_at=fields.number("next_try_at"),
        error=fields.text("error"),
        pending_reason=fields.text("pending_reason"),
        peak_active=fields.integer("peak_active"),
        requester=ProcessIdentity.from_dict(unpack_map(requester, f"{key} requester")) if requester else None,
        slurm_job=fields.text("slurm_job"),
        slurm_task=fields.integer("slurm_task"),
        missing_since=fields.number("missing_since"),
        seal=fields.text("seal"),
        spec=unpack_map(spec, f"{key} spec") if spec else {},
    )


def encode_resource_set(record: ResourceSetRecord) -> dict[str, str | bytes]:
    """The set's hash from a record: the inverse of :func:`decode_resource_set`."""
    out: dict[str, str | bytes] = {
        "schema": str(SCHEMA),
        "type": record.type,
        "state": record.state.value,
        "daemonize": "1" if record.daemonize else "0",
        ("cluster" if record.type == "slurm" else "host"): record.server,
        "requester": pack(record.requester.to_dict()) if record.requester else b"",
        "spec": pack(record.spec),
    }
    for name in ("version", "generation", "nworkers", "runtime", "attempts", "launches", "peak_active", "slurm_task"):
        out[name] = str(getattr(record, name))
    for name in ("token", "error", "pending_reason", "seal", "slurm_job"):
        out[name] = getattr(record, name)
    for name in (
        "requested_at",
        "expires_at",
        "submitted_at",
        "started_at",
        "ended_at",
        "changed_at",
        "deadline",
        "next_try_at",
        "missing_since",
    ):
        if value := getattr(record, name):
            out[name] = f"{value:.6f}"
    return out


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A worker as its launcher registered it.

    Attributes:
        member: Its name in the lease set; never used for two processes.
        index: 0 .. nworkers-1 within the set.
        rq_name: Its name among RQ's workers.
        started_at: Wall clock seconds, for people.
        slurm: Slurm ids (cluster, job, task, restart count), empty elsewhere.
        state: ``alive``, ``stopped`` or ``hung``.
        job: The RQ job it has claimed, or None.
    """

    member: str
    resource_set: int
    index: int
    host: str
    pid: int
    start_ticks: int
    boot_id: str
    started_at: float
    rq_name: str
    slurm: dict[str, str] = field(default_factory=dict)
    state: str = "alive"
    job: str | None = None


def decode_worker(
    member: str, wgroup_id: int, packed: bytes, *, state: str = "alive", job: str | None = None
) -> WorkerRecord:
    """A worker from its packed record.

    Raises:
        SerializationError: The record is garbage.
    """
    where = f"the record of worker {member}"
    info = unpack_map(packed, where)
    try:
        return WorkerRecord(
            member=member,
            resource_set=wgroup_id,
            index=int(info["index"]),
            host=str(info["host"]),
            pid=int(info["pid"]),
            start_ticks=int(info["start_ticks"]),
            boot_id=str(info["boot_id"]),
            started_at=float(info["started_at"]),
            rq_name=str(info["rq_name"]),
            slurm={str(k): str(v) for k, v in dict(info.get("slurm", {})).items()},
            state=state,
            job=job,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise SerializationError(f"{where} is garbled: {error!r}.") from error


def encode_worker(worker: WorkerRecord) -> bytes:
    """The packed record of a worker; member, set, state and job are known from elsewhere."""
    return pack(
        {
            "index": worker.index,
            "host": worker.host,
            "pid": worker.pid,
            "start_ticks": worker.start_ticks,
            "boot_id": worker.boot_id,
            "started_at": worker.started_at,
            "rq_name": worker.rq_name,
            "slurm": worker.slurm,
        }
    )


@dataclass(frozen=True, slots=True)
class LauncherRecord:
    """The launcher that holds a node of a launch."""

    node: str
    token: str
    nonce: str
    identity: ProcessIdentity

    @property
    def owner(self) -> str:
        """What the scripts compare: a newer launch or launcher has another."""
        return f"{self.token}:{self.nonce}:"


def decode_launcher(node: str, value: bytes) -> LauncherRecord:
    """A launcher from its field.

    Raises:
        SerializationError: The field is garbage.
    """
    parts = value.split(b":", 2)
    if len(parts) != 3:  # noqa: PLR2004
        raise SerializationError(f"The record of the launcher on {node} is garbled.")
    identity = ProcessIdentity.from_dict(unpack_map(parts[2], f"the record of the launcher on {node}"))
    return LauncherRecord(node, text_of(parts[0]), text_of(parts[1]), identity)


@dataclass(frozen=True, slots=True)
class ProvisionerRecord:
    """A live provisioner and the hosts and clusters that it serves."""

    member: str
    host: str
    pid: int
    serves: tuple[str, ...]
    started_at: float
    version: str


def decode_provisioner(member: str, packed: bytes) -> ProvisionerRecord:
    """A provisioner from its packed record.

    Raises:
        SerializationError: The record is garbage.
    """
    info = unpack_map(packed, f"the record of provisioner {member}")
    try:
        return ProvisionerRecord(
            member,
            str(info["host"]),
            int(info["pid"]),
            tuple(map(str, info["serves"])),
            float(info["started_at"]),
            str(info["version"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise SerializationError(f"The record of provisioner {member} is garbled: {error!r}.") from error


@dataclass(frozen=True, slots=True)
class Event:
    """A change of state, or a death, as the streams hold it."""

    id: str
    at: float
    resource_set: int
    fields: dict[str, str]


def decode_event(entry_id: bytes, raw: Mapping[bytes, bytes]) -> Event:
    """An event from a stream entry; unreadable numbers become 0 and -1, since a log must stay readable."""
    fields = {text_of(name): text_of(value) for name, value in raw.items()}
    try:
        at, wgroup_id = float(fields.pop("at", "0")), int(fields.pop("resource_set", "-1"))
    except ValueError:
        at, wgroup_id = 0.0, -1
    return Event(text_of(entry_id), at, wgroup_id, fields)
