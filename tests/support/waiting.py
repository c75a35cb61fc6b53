"""Waiting for a condition: the only way in which tests wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    predicate: Callable[[], T], timeout: float = 10.0, what: str = "the condition", *, interval: float = 0.01
) -> T:
    """Return the first true value of ``predicate``, or fail naming what was awaited and what was last seen."""
    ends = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > ends:
            raise AssertionError(f"not within {timeout} s: {what} (last seen: {value!r})")
        time.sleep(interval)


def holds_for(predicate: Callable[[], object], seconds: float, *, what: str, interval: float = 0.05) -> None:
    """See that a condition stays true for a while."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        assert predicate(), f"did not hold for {seconds} s: {what}"
        time.sleep(interval)
