"""What stands in Redis may have been written by anybody: records come back whole, or a SerializationError does."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gutscore_rs.errors import SerializationError
from gutscore_rs.identity import ProcessIdentity
from gutscore_rs.store.records import (
    MAX_PACKED_BYTES,
    LauncherRecord,
    ProvisionerRecord,
    ResourceSetRecord,
    State,
    WorkerRecord,
    decode_event,
    decode_launcher,
    decode_provisioner,
    decode_resource_set,
    decode_worker,
    encode_resource_set,
    encode_worker,
    pack,
    unpack,
    unpack_map,
)

ME = ProcessIdentity("host", "boot", 1, 2, 3)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
counts, seconds = st.integers(0, 10**9), st.floats(0, 1e10).map(lambda value: round(value, 6))
packed_garbage = st.binary(max_size=60) | plain.map(pack)


def text(**limits: Any) -> st.SearchStrategy[str]:
    return st.text(st.characters(codec="utf-8"), **limits)


sets = st.builds(
    ResourceSetRecord,
    wgroup_id=counts,
    type=st.sampled_from(["local", "slurm"]),
    state=st.sampled_from(State),
    version=counts,
    generation=counts,
    nworkers=counts,
    runtime=counts,
    daemonize=st.booleans(),
    server=text(min_size=1),
    token=text(),
    attempts=counts,
    launches=counts,
    requested_at=seconds,
    expires_at=seconds,
    submitted_at=seconds,
    started_at=seconds,
    ended_at=seconds,
    changed_at=seconds,
    deadline=seconds,
    next_try_at=seconds,
    error=text(),
    pending_reason=text(),
    peak_active=counts,
    requester=st.none() | st.just(ME),
    spec=st.dictionaries(text(max_size=5), st.integers(0, 9) | text()),
)
SET = ResourceSetRecord(
    0, "local", State.ACTIVE, 1, 1, 2, 60, daemonize=False, server="host", requester=ME, spec={"a": 1}
)


def as_redis(hash_: dict[str, str | bytes]) -> dict[bytes, bytes]:
    return {name.encode(): value if isinstance(value, bytes) else value.encode() for name, value in hash_.items()}


@given(sets)
def test_a_set_survives_its_hash(record: ResourceSetRecord) -> None:
    raw = as_redis(encode_resource_set(record))
    assert decode_resource_set(record.wgroup_id, raw, "key") == record


@given(st.sampled_from(sorted(as_redis(encode_resource_set(SET)))), packed_garbage)
@example(b"nworkers", b"inf")
@example(b"version", b"1e400")
@example(b"runtime", "٣".encode())
@example(b"deadline", b"-nan")
def test_garbage_in_any_field_of_a_set_is_a_record_or_a_serialization_error(name: bytes, garbage: bytes) -> None:
    raw = as_redis(encode_resource_set(SET)) | {name: garbage}
    try:
        record = decode_resource_set(0, raw, "the key")
    except SerializationError as error:
        assert "the key" in str(error) or name == b"requester"  # noqa: PT017
        return
    assert isinstance(record.spec, dict)
    assert isinstance(record.nworkers, int)


@given(
    st.dictionaries(st.binary(max_size=12) | st.sampled_from([b"schema", b"state"]), st.binary(max_size=20), max_size=6)
)
def test_a_hash_of_garbage_is_a_serialization_error(raw: dict[bytes, bytes]) -> None:
    with pytest.raises(SerializationError):
        decode_resource_set(0, raw | {b"schema": b"0"}, "key")


def test_an_error_names_the_key_the_field_and_what_stands_there() -> None:
    with pytest.raises(SerializationError, match=r"'nworkers' of the-key holds 'many'"):
        decode_resource_set(0, as_redis(encode_resource_set(SET)) | {b"nworkers": b"many"}, "the-key")


@pytest.mark.parametrize("schema", [b"2", b"", b"x"])
def test_another_schema_is_refused(schema: bytes) -> None:
    with pytest.raises(SerializationError):
        decode_resource_set(0, as_redis(encode_resource_set(SET)) | {b"schema": schema}, "key")


def test_expected_workers_are_those_of_sets_that_are_wanted() -> None:
    wanted = {
        state
        for state in State
        if decode_resource_set(0, as_redis(encode_resource_set(SET)) | {b"state": state.value.encode()}, "k").expected
    }
    assert wanted == {State.REQUESTED, State.SUBMITTING, State.PENDING, State.STARTING, State.ACTIVE}


WORKER = WorkerRecord("h/1/2/3/4/b/n", 7, 2, "h", 3, 4, "boot", 5.5, "rq", {"job": "9"}, "hung", "j")


def test_a_worker_survives_its_record() -> None:
    assert decode_worker(WORKER.member, 7, encode_worker(WORKER), state="hung", job="j") == WORKER


@given(packed_garbage)
def test_a_worker_of_garbage_is_a_serialization_error(garbage: bytes) -> None:
    with pytest.raises(SerializationError):
        decode_worker("member", 0, garbage)


@given(st.sampled_from(["index", "host", "pid", "start_ticks", "boot_id", "started_at", "rq_name", "slurm"]), plain)
@example("pid", float("inf"))
@example("slurm", [[1]])
def test_garbage_in_any_field_of_a_worker_is_a_record_or_a_serialization_error(name: str, garbage: object) -> None:
    info = msgpack.unpackb(encode_worker(WORKER)) | {name: garbage}
    try:
        made = decode_worker("member", 0, pack(info))
    except SerializationError:
        return
    assert isinstance(made.pid, int)


@given(packed_garbage)
def test_a_launcher_or_provisioner_of_garbage_is_a_serialization_error(garbage: bytes) -> None:
    for decode in (decode_launcher, decode_provisioner):
        for value in (garbage, b"token:nonce:" + garbage):
            with pytest.raises(SerializationError):
                decode("name", value)


@given(st.sampled_from(["host", "pid", "serves", "started_at", "version"]), plain)
def test_garbage_in_any_field_of_a_provisioner_is_a_record_or_a_serialization_error(name: str, garbage: object) -> None:
    info = {"host": "h", "pid": 1, "serves": ["h"], "started_at": 1.0, "version": "1"}
    try:
        assert isinstance(decode_provisioner("m", pack(info | {name: garbage})), ProvisionerRecord)
    except SerializationError:
        pass


def test_a_launcher_survives_its_field() -> None:
    record = LauncherRecord("node", "token", "nonce", ME)
    assert decode_launcher("node", record.owner.encode() + pack(ME.to_dict())) == record


@pytest.mark.parametrize(
    "bomb",
    [
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 100_000,
        b"\x81" * 100_000,
        b"\x81\x93\x01\x02\x03\x04",
        b"\xc7\x0c\xff" + b"\xff" * 12,
        b"",
        b"\x01\x01",
        b"\xa4\xff\xff\xff\xff",
    ],
)
def test_hostile_msgpack_is_a_serialization_error(bomb: bytes) -> None:
    with pytest.raises(SerializationError, match="where"):
        unpack_map(bomb, "where")


def test_what_is_too_large_is_not_even_looked_at() -> None:
    with pytest.raises(SerializationError, match="at most"):
        unpack(b"\xc0" * (MAX_PACKED_BYTES + 1), "where")


@given(
    st.binary(max_size=9),
    st.dictionaries(st.binary(max_size=9) | st.sampled_from([b"at", b"resource_set"]), st.binary(max_size=9)),
)
def test_an_event_is_readable_whatever_it_holds(entry_id: bytes, raw: dict[bytes, bytes]) -> None:
    event = decode_event(entry_id, raw)
    assert isinstance(event.at, float)
    assert isinstance(event.resource_set, int)
