"""Calls and their results as sealed bytes: what an :class:`~gutscore_rs.executor.Executor` sends, and gets back.

A sealed call is signed with the case's key for the one job that carries it, and checked before anything of it is
decoded: who can write into Redis, but does not have the case's access file, can neither run code on workers nor in the
driver. Functions and arguments that C's pickle cannot carry go by cloudpickle; large buffers (numpy arrays, bytes-like
objects that know protocol 5, PEP 574) are not copied into the pickle.

Layout: signature (32 bytes), head, lengths of the parts, the pickle, its buffers. In RQ's eyes a call is a job of the
function :func:`run`, so that any RQ worker can run it where it finds the case's access file.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import pickle
import struct
import sys
import traceback
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cloudpickle

from gutscore_rs.errors import CallRefusedError, PayloadTooLargeError, RemoteTracebackError, TaskFailedError

_SIGNATURE = 32
# Python's version (a function that goes by value does not outlive a minor one), most bytes of the result, parts.
_HEAD = struct.Struct("<BBQI")
_LENGTH = struct.Struct("<Q")
_CALL, _RESULT = b"gs-call", b"gs-result"
VALUE, ERROR = b"V", b"E"
# Pickled by C's pickle as cloudpickle would, only faster.
_SIMPLE = {int, float, complex, str, bytes, bool, type(None)}

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


# -- RQ's wrapping ----------------------------------------------------------------------------------------------


def _wrapping() -> tuple[bytes, bytes]:
    """What stands before and after the bytes of a sealed call in RQ's pickled job (protocol 3: no frames)."""
    # Of bytes that the length before it does not have.
    marker = b"\xaa" * 300
    name = f"{__name__}.run"
    before, after = pickle.dumps((name, None, (marker,), {}), protocol=3).split(marker)
    return before[: -_BINBYTES.size], after


_BINBYTES = struct.Struct("<I")
_BEFORE, _AFTER = _wrapping()


def wrap(sealed: Sequence[bytes | memoryview]) -> bytes:
    """RQ's ``data`` of a job that carries a sealed call."""
    size = sum(map(len, sealed))
    return b"".join((_BEFORE, _BINBYTES.pack(size), *sealed, _AFTER))


def unwrap(data: bytes) -> memoryview:
    """The sealed call in RQ's ``data``, without unpickling it.

    Raises:
        CallRefusedError: It is another job's.
    """
    if not data.startswith(_BEFORE):
        # RQ writes a job anew, and compressed, when it is to be run again.
        with contextlib.suppress(zlib.error):
            data = zlib.decompress(data)
    start = len(_BEFORE) + _BINBYTES.size
    if not data.startswith(_BEFORE) or not data.endswith(_AFTER) or len(data) < start + len(_AFTER):
        raise CallRefusedError("The job says that its result is awaited but carries no sealed call; it is not run.")
    return memoryview(data)[start : len(data) - len(_AFTER)]


# -- sealing ----------------------------------------------------------------------------------------------------


def _sign(key: bytes, use: bytes, job_id: str, parts: Iterable[bytes | memoryview]) -> bytes:
    digest = hashlib.blake2b(job_id.encode(), digest_size=_SIGNATURE, key=key, person=use)
    digest.update(b"\0")
    for part in parts:
        digest.update(part)
    return digest.digest()


def _seal(key: bytes, use: bytes, job_id: str, content: Any, largest: int, *, plain: bool) -> list[bytes | memoryview]:
    buffers: list[pickle.PickleBuffer] = []
    pickled = _dumps(content, buffers, plain=plain)
    parts: list[bytes | memoryview] = [pickled, *(buffer.raw() for buffer in buffers)]
    head = _HEAD.pack(*sys.version_info[:2], largest, len(parts))
    lengths = b"".join(_LENGTH.pack(len(part)) for part in parts)
    signed = [head + lengths, *parts]
    return [_sign(key, use, job_id, signed), *signed]


def _dumps(content: Any, buffers: list[pickle.PickleBuffer], *, plain: bool) -> bytes:
    if plain:
        try:
            return pickle.dumps(content, protocol=5)
        except Exception:  # noqa: BLE001, S110 - cloudpickle may know how, or says why not
            pass
    return cloudpickle.dumps(content, protocol=5, buffer_callback=buffers.append)  # type: ignore[no-any-return]


def _is_plain(call: Call) -> bool:
    """Whether C's pickle makes of it what cloudpickle would: a function that its module holds, and plain values."""
    function, args, kwargs = call
    if kwargs or any(type(value) not in _SIMPLE for value in args):
        return False
    module = sys.modules.get(getattr(function, "__module__", None) or "__main__")
    return (
        module is not None
        and module.__name__ != "__main__"
        and module.__dict__.get(getattr(function, "__qualname__", "")) is function
        and module.__name__ not in cloudpickle.list_registry_pickle_by_value()
    )


def _open(key: bytes, use: bytes, job_id: str, sealed: memoryview) -> tuple[memoryview, list[memoryview]]:
    """Check the signature; head and parts.

    Raises:
        CallRefusedError: It was not made by a holder of the key for this job.
    """
    signature, rest = sealed[:_SIGNATURE], sealed[_SIGNATURE:]
    if not hmac.compare_digest(signature, _sign(key, use, job_id, [rest])):
        raise CallRefusedError(
            f"What job {job_id} carries is not signed with this case's key for it; nothing of it is decoded. "
            "Whoever wrote it into Redis does not have the access file."
        )
    count = _HEAD.unpack_from(rest)[3]
    lengths = [_LENGTH.unpack_from(rest, _HEAD.size + i * _LENGTH.size)[0] for i in range(count)]
    parts, at = [], _HEAD.size + count * _LENGTH.size
    for length in lengths:
        parts.append(rest[at : at + length])
        at += length
    return rest[: _HEAD.size], parts


def _loads(parts: Sequence[memoryview]) -> Any:
    # As bytearray: arrays over them are writable, as their owners know them.
    return pickle.loads(parts[0], buffers=[bytearray(part) for part in parts[1:]])  # noqa: S301 - it is signed


def dumps_anything(value: Any) -> bytes:
    """A pickle of a value, also of what only cloudpickle can carry."""
    return cloudpickle.dumps(value, protocol=5)  # type: ignore[no-any-return]


# -- calls ------------------------------------------------------------------------------------------------------


def seal_call(key: bytes, job_id: str, call: Call, *, largest: int) -> bytes:
    """A call as RQ's ``data``.

    Args:
        key: The case's signing key.
        job_id: The job that will carry it.
        call: Function, arguments, keyword arguments.
        largest: Most bytes of the call, and of its result.

    Raises:
        PayloadTooLargeError: It has more.
    """
    sealed = _seal(key, _CALL, job_id, call, largest, plain=_is_plain(call))
    size = sum(map(len, sealed))
    if size > largest:
        raise PayloadTooLargeError(_too_large("The call's function and arguments", size, largest))
    return wrap(sealed)


def open_call(key: bytes, job_id: str, data: bytes) -> Call:
    """The call in a job's data, checked before it is decoded.

    Raises:
        CallRefusedError: It is not signed for this job, or was made by another version of Python.
    """
    head, parts = _open(key, _CALL, job_id, unwrap(data))
    made_by = tuple(head[:2])
    if made_by != sys.version_info[:2]:
        raise CallRefusedError(
            f"The call was made by Python {made_by[0]}.{made_by[1]}, this worker runs {sys.version_info[0]}."
            f"{sys.version_info[1]}: functions cannot go between them. Use one Python on both sides."
        )
    call: Call = _loads(parts)
    return call


def largest_result(data: bytes) -> int:
    """Most bytes that the result of a call may have, as the call says; not checked."""
    return int(_HEAD.unpack_from(unwrap(data), _SIGNATURE)[2])


def run(sealed: bytes) -> Any:
    """What a worker calls that takes a sealed call for any other job.

    Raises:
        CallRefusedError: Always.
    """
    raise CallRefusedError(
        f"A sealed call ({len(sealed)} bytes) reached a worker that is not of its case; only workers of gutscore_rs "
        "that have the case's access file can open it."
    )


# -- results ----------------------------------------------------------------------------------------------------


def seal_value(key: bytes, job_id: str, value: Any, *, largest: int) -> bytes:
    """What a call returned.

    Raises:
        PayloadTooLargeError: It has more than ``largest`` bytes.
    """
    sealed = _seal(key, _RESULT, job_id, (VALUE, value), largest, plain=type(value) in _SIMPLE)
    size = sum(map(len, sealed))
    if size > largest:
        raise PayloadTooLargeError(_too_large("The call's result", size, largest))
    return b"".join(sealed)


def seal_error(key: bytes, job_id: str, error: BaseException) -> bytes:
    """What a call raised, with the text of its traceback."""
    text = "".join(traceback.format_exception(error))
    # Its frames are its worker's; what it is chained to is in the text.
    error.__traceback__ = error.__cause__ = error.__context__ = None
    try:
        sealed = _seal(key, _RESULT, job_id, (ERROR, error, text), 0, plain=False)
        _loads([memoryview(part) for part in sealed[2:]])
    except Exception:  # noqa: BLE001 - an exception class of its own making may not be picklable
        stand_in = TaskFailedError(f"{type(error).__name__}: {error}")
        sealed = _seal(key, _RESULT, job_id, (ERROR, stand_in, text), 0, plain=False)
    return b"".join(sealed)


def open_result(key: bytes, job_id: str, payload: bytes) -> Any:
    """What a call returned; raises what it raised, with its traceback as the cause.

    Raises:
        CallRefusedError: It is not signed for this job.
    """
    _, parts = _open(key, _RESULT, job_id, memoryview(payload))
    content = _loads(parts)
    if content[0] == VALUE:
        return content[1]
    error, text = content[1], content[2]
    error.__cause__ = RemoteTracebackError(text)
    raise error


def _too_large(what: str, size: int, largest: int) -> str:
    return (
        f"{what} are {size:,} bytes, more than the {largest:,} that may go through Redis. Put large data into files "
        "that both sides see, or raise the limit: `manager.executor(max_bytes=...)`."
    )
