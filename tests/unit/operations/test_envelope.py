"""What a provisioner is willing to read: its own case's signed operations, whole, in time, on their own queue and job."""

from __future__ import annotations

import hashlib
import hmac
import pickle
import zlib
from dataclasses import replace
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gutscore_rs.access import Access
from gutscore_rs.errors import OperationRefusedError
from gutscore_rs.operations import carry_out
from gutscore_rs.operations.doorbell import CARRY_OUT, MsgpackSerializer, sealed_operation
from gutscore_rs.operations.envelope import MAGIC, MAX_BYTES, Operation, seal, unseal

ACCESS = Access.new("case", socket="/s")
QUEUE, JOB = "case:ops:host", "op-1"
OPERATION = Operation("request", "case", QUEUE, JOB, 3, 1, 2, 1000.0, 1600.0)
SEALED = seal(OPERATION, ACCESS)


def open_(sealed: bytes, **changes: Any) -> Operation:
    arguments: dict[str, Any] = {"job_id": JOB, "queue": QUEUE, "now": 1100.0} | changes
    return unseal(sealed, arguments.pop("access", ACCESS), **arguments)


def forged(body: bytes, access: Access = ACCESS) -> bytes:
    """Anything at all under a right signature: what a holder of the key could send."""
    head = MAGIC + access.key_id.encode()
    return head + hmac.new(access.signing_key, head + body, hashlib.sha256).digest() + body


def job_data(*parts: Any) -> bytes:
    return zlib.compress(msgpack.packb(list(parts), use_bin_type=True))


def test_an_operation_survives_its_envelope() -> None:
    assert open_(SEALED) == OPERATION
    assert seal(replace(OPERATION, nonce="x" * 32), ACCESS) != SEALED


def test_each_operation_has_a_nonce_of_its_own() -> None:
    assert Operation("request", "c", "q", "j", 0, 0, 0, 0.0, 0.0).nonce != OPERATION.nonce


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_an_envelope_with_any_byte_changed_is_refused(at: int, change: int) -> None:
    damaged = bytearray(SEALED)
    damaged[at] ^= change
    with pytest.raises(OperationRefusedError):
        open_(bytes(damaged))


def test_an_envelope_that_was_cut_anywhere_or_has_more_behind_it_is_refused() -> None:
    for length in range(len(SEALED)):
        with pytest.raises(OperationRefusedError):
            open_(SEALED[:length])
    with pytest.raises(OperationRefusedError):
        open_(SEALED + b"\0")


@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    for sealed in (noise, MAGIC + noise, SEALED[:51] + noise):
        with pytest.raises(OperationRefusedError):
            open_(sealed)


def test_the_key_of_another_case_or_of_an_earlier_life_is_refused() -> None:
    for other in (
        Access.new("case", socket="/s"),
        replace(ACCESS, signing_key=bytes(32)),
        replace(ACCESS, key_id="0" * 16),
    ):
        with pytest.raises(OperationRefusedError, match="not signed"):
            open_(seal(OPERATION, other))


def test_nothing_is_decoded_before_the_signature_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gutscore_rs.operations.envelope.unpack_map", lambda *_: pytest.fail("decoded"))
    with pytest.raises(OperationRefusedError, match="not signed"):
        open_(seal(OPERATION, Access.new("case", socket="/s")))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"access": replace(ACCESS, case="other")}, "case 'case'"),
        ({"queue": "case:ops:elsewhere"}, "queue"),
        ({"job_id": "op-2"}, "job"),
        ({"now": 1600.1}, "expired"),
    ],
)
def test_an_operation_for_another_case_queue_job_or_time_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(OperationRefusedError, match=why):
        open_(SEALED, **changes)


def test_until_its_last_moment_an_operation_is_good() -> None:
    assert open_(SEALED, now=1600.0) == OPERATION


@pytest.mark.parametrize("kind", ["", "shell", "os.system", "Request", "release "])
def test_an_unknown_kind_is_refused(kind: str) -> None:
    with pytest.raises(OperationRefusedError, match="unknown operation"):
        open_(seal(replace(OPERATION, kind=kind), ACCESS))


@pytest.mark.parametrize(
    "change",
    [
        {"wgroup_id": "x"},
        {"version": None},
        {"expires": "soon"},
        {"expires": float("nan")},
        {"wgroup_id": float("inf")},
        {"expires": float("inf")},
    ],
)
def test_a_signed_field_of_garbage_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(OperationRefusedError):
        open_(seal(replace(OPERATION, **change), ACCESS))


@pytest.mark.parametrize(
    "body", [b"\x80", b"\xc0", b"\xc1", b"\x91" * 60_000, b"\xdf\xff\xff\xff\xff", pickle.dumps({})]
)
def test_a_signed_body_that_is_no_operation_is_refused(body: bytes) -> None:
    with pytest.raises(OperationRefusedError, match="garbled"):
        open_(forged(body))


def test_what_is_too_large_is_refused_even_when_it_is_signed() -> None:
    with pytest.raises(OperationRefusedError, match="no operation of ours"):
        open_(forged(b"\0" * MAX_BYTES))


# -- the RQ job around it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [zlib.compress, bytes])
def test_the_envelope_is_found_in_rqs_job_compressed_or_not(pack: Any) -> None:
    data = MsgpackSerializer.dumps([CARRY_OUT, None, [SEALED], {}])
    assert sealed_operation(pack(data), JOB) == SEALED


@pytest.mark.parametrize(
    "parts",
    [
        ("os.system", None, [b"x"], {}),
        (CARRY_OUT, "instance", [b"x"], {}),
        (CARRY_OUT, None, ["text"], {}),
        (CARRY_OUT, None, [b"x", b"y"], {}),
        (CARRY_OUT, None, [], {}),
        (CARRY_OUT, None, [b"x"], {"k": 1}),
        (CARRY_OUT,),
        (),
        (CARRY_OUT, None, [b"x"], {}, 1),
        (None, None, None, None),
    ],
)
def test_any_other_call_is_refused(parts: tuple[Any, ...]) -> None:
    with pytest.raises(OperationRefusedError, match="no operation of gutscore_rs"):
        sealed_operation(job_data(*parts), JOB)


class Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return pytest.fail, ("unpickled",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_data_is_refused_and_not_unpickled(protocol: int) -> None:
    pickled = pickle.dumps((CARRY_OUT, None, (Bomb(),), {}), protocol)
    for data in (pickled, zlib.compress(pickled)):
        with pytest.raises(OperationRefusedError):
            sealed_operation(data, JOB)


@pytest.mark.parametrize(
    "bomb",
    [
        zlib.compress(b"\0" * 50_000_000),
        zlib.compress(b"\x91" * 1_000_000),
        b"\x91" * 1_000_000,
        zlib.compress(b"\xdd\xff\xff\xff\xff"),
        zlib.compress(b"\xdf\xff\xff\xff\xff"),
        zlib.compress(b"\xc6\xff\xff\xff\xff"),
        zlib.compress(b"\x94" + b"\xda\xff\xff"),
        zlib.compress(MsgpackSerializer.dumps([CARRY_OUT, None, [SEALED], {}]))[:-20],
        b"",
    ],
)
def test_bombs_are_refused(bomb: bytes) -> None:
    with pytest.raises(OperationRefusedError):
        sealed_operation(bomb, JOB)


@given(st.binary(max_size=200))
def test_noise_in_a_job_is_refused(noise: bytes) -> None:
    for data in (noise, zlib.compress(noise)):
        with pytest.raises(OperationRefusedError):
            sealed_operation(data, JOB)


def test_a_stock_worker_that_takes_an_operation_fails_it() -> None:
    with pytest.raises(OperationRefusedError, match="provisioner"):
        carry_out(SEALED)
