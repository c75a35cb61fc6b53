"""Sealed calls and results: what goes in comes out, and what was not sealed by us is not decoded."""

from __future__ import annotations

import pickle
import sys
import zlib
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import jobs
from support.calls import OddError

from gutscore_rs import calls
from gutscore_rs.errors import CallRefusedError, PayloadTooLargeError, RemoteTracebackError, TaskFailedError

KEY, OTHER = b"k" * 32, b"o" * 32
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
)


def there(function: Any, *args: Any, key: bytes = KEY, job_id: str = "j", **kwargs: Any) -> Any:
    data = calls.seal_call(KEY, "j", (function, args, kwargs), largest=10**7)
    function, args, kwargs = calls.open_call(key, job_id, data)
    return function(*args, **kwargs)


def back(value: Any) -> Any:
    return calls.open_result(KEY, "j", calls.seal_value(KEY, "j", value, largest=10**7))


@given(VALUES)
def test_values_go_there_and_back(value: Any) -> None:
    assert there(lambda x: x, value) == value
    assert there(jobs.square, 3) == 9
    assert back(value) == value


def test_functions_of_every_kind_go_there() -> None:
    base = 3
    assert there(lambda x: x + base, 4) == 7
    assert there("a{}".format, 1) == "a1"
    assert there(sorted, [2, 1], reverse=True) == [2, 1]


def test_a_plain_call_is_pickled_as_cloudpickle_would() -> None:
    plain, other = (calls.seal_call(KEY, "j", (jobs.square, (argument,), {}), largest=10**6) for argument in (3, [3]))
    assert b"support.jobs" in plain
    assert b"support.jobs" in other


def test_arrays_go_beside_the_pickle_and_stay_writable() -> None:
    array = np.arange(1000.0)
    data = calls.seal_call(KEY, "j", (np.sum, (array,), {}), largest=10**6)
    (arrived,) = calls.open_call(KEY, "j", data)[1]
    arrived[0] = 5.0
    assert np.array_equal(arrived[1:], array[1:])
    assert np.array_equal(back(array), array)


@pytest.mark.parametrize(("key", "job_id"), [(OTHER, "j"), (KEY, "another")])
def test_a_call_of_another_key_or_for_another_job_is_not_decoded(key: bytes, job_id: str) -> None:
    with pytest.raises(CallRefusedError, match="not signed"):
        there(jobs.square, 3, key=key, job_id=job_id)


@given(st.data())
def test_a_call_with_one_byte_changed_is_not_decoded(data: st.DataObject) -> None:
    sealed = bytearray(calls.seal_call(KEY, "j", (jobs.square, (3,), {}), largest=10**6))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CallRefusedError):
        # The length in RQ's wrapping is the only thing that nobody reads.
        if calls.unwrap(bytes(sealed)) == calls.unwrap(
            bytes(sealed[:place] + bytes([sealed[place]]) + sealed[place + 1 :])
        ):
            calls.open_call(KEY, "j", bytes(sealed))
            assert len(calls._BEFORE) <= place < len(calls._BEFORE) + 4
            raise CallRefusedError


def test_a_result_cannot_be_passed_off_as_a_call() -> None:
    sealed = calls.seal_value(KEY, "j", 3, largest=10**6)
    with pytest.raises(CallRefusedError):
        calls.open_call(KEY, "j", calls.wrap([sealed]))


@given(st.binary(max_size=200))
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(CallRefusedError):
        calls.open_call(KEY, "j", garbage)
    with pytest.raises(CallRefusedError):
        calls.open_result(KEY, "j", garbage)


def test_rq_sees_a_call_of_a_function_that_refuses() -> None:
    data = calls.seal_call(KEY, "j", (jobs.square, (3,), {}), largest=10**6)
    name, instance, (sealed,), kwargs = pickle.loads(data)
    assert (name, instance, kwargs) == ("gutscore_rs.calls.run", None, {})
    with pytest.raises(CallRefusedError, match="not of its case"):
        calls.run(sealed)
    # RQ writes a job anew when it is to be run again, compressed.
    assert calls.open_call(KEY, "j", zlib.compress(data))[1] == (3,)


def test_another_version_of_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = calls.seal_call(KEY, "j", (jobs.square, (3,), {}), largest=10**6)
    monkeypatch.setattr(sys, "version_info", (3, 99, 0, "final", 0))
    with pytest.raises(CallRefusedError, match="Python"):
        calls.open_call(KEY, "j", data)


def test_errors_come_with_the_text_of_their_traceback() -> None:
    try:
        jobs.fail("broken")
    except ValueError as error:
        sealed = calls.seal_error(KEY, "j", error)
    with pytest.raises(ValueError, match="broken") as caught:
        calls.open_result(KEY, "j", sealed)
    assert isinstance(caught.value.__cause__, RemoteTracebackError)
    assert "in fail" in str(caught.value.__cause__)


def test_an_error_that_cannot_travel_is_told_in_words() -> None:
    with pytest.raises(TaskFailedError, match="OddError: 1 and 2"):
        calls.open_result(KEY, "j", calls.seal_error(KEY, "j", OddError(1, 2)))


def test_what_is_too_large_is_refused_with_its_size() -> None:
    with pytest.raises(PayloadTooLargeError, match="arguments are"):
        calls.seal_call(KEY, "j", (len, (b"x" * 1000,), {}), largest=500)
    with pytest.raises(PayloadTooLargeError, match="result are"):
        calls.seal_value(KEY, "j", b"x" * 1000, largest=500)


def test_modules_that_go_by_value_are_not_pickled_by_name() -> None:
    cloudpickle.register_pickle_by_value(jobs)
    try:
        assert not calls._is_plain((jobs.square, (3,), {}))
    finally:
        cloudpickle.unregister_pickle_by_value(jobs)
    assert calls._is_plain((jobs.square, (3,), {}))
