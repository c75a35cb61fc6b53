"""What tests of executors submit, and executors on a live case."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.cases import LiveCase

from gutscore_rs.access import Access
from gutscore_rs.executor import Executor
from gutscore_rs.store import Store


@dataclass(frozen=True)
class OpenCase:
    """What an executor needs of a case."""

    access: Access
    store: Store
    queues: tuple[str, ...] = ("tasks",)


@contextmanager
def executor_on(case: LiveCase, *, queues: tuple[str, ...] = ("tasks",), **options: Any) -> Iterator[Executor]:
    """An executor; it is shut down at the end, and what is pending is taken back."""
    executor = Executor(OpenCase(case.access, case.store, queues), **options)
    try:
        yield executor
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        executor.shutdown(wait=True)


class OddError(Exception):
    """Cannot be made again from its arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def raise_odd() -> None:
    raise OddError(1, 2)


def raise_chained() -> None:
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise ValueError("outer") from error


def leave_a_line(file: str, text: str) -> str:
    with Path(file).open("a") as stream:
        stream.write(f"{text}\n")
    return text


def count_runs(file: str) -> int:
    """How often it ran, by the lines of a file."""
    with Path(file).open("a") as stream:
        stream.write("x\n")
    return len(Path(file).read_text().splitlines())


def fail_first(file: str, times: int) -> int:
    runs = count_runs(file)
    if runs <= times:
        raise ValueError(f"run {runs}")
    return runs


def die_first(file: str, times: int) -> int:
    runs = count_runs(file)
    if runs <= times:
        os.kill(os.getpid(), 9)
    return runs


def wait_for(file: str, seconds: float = 30.0) -> str:
    ends = time.monotonic() + seconds
    while not Path(file).exists() and time.monotonic() < ends:
        time.sleep(0.005)
    return "seen"
