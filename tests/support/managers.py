"""Stand-ins for the manager that a case's driver is given."""

from __future__ import annotations

import itertools
import random
import traceback
from concurrent.futures import Future, as_completed
from dataclasses import dataclass, field
from typing import Any


@dataclass
class FakeResult:
    exc_string: str | None


@dataclass
class FakeJob:
    id: str
    future: Future = field(default_factory=Future)

    @property
    def is_failed(self):
        return self.future.exception() is not None

    def return_value(self):
        return None if self.is_failed else self.future.result()

    def latest_result(self):
        error = self.future.exception()
        return FakeResult("".join(traceback.format_exception(error)) if error else None)


class SynchronousManager:
    """Executes at once; yields in a shuffled order if a seed is given. ``faults`` maps a call's number to its error."""

    def __init__(self, shuffle: int | None = None, faults: dict[int, Exception] | None = None) -> None:
        self.random = None if shuffle is None else random.Random(shuffle)
        self.faults = faults or {}
        self.calls: list[tuple[Any, tuple]] = []
        self.lines: list[str] = []

    def enqueue(self, function, *args, **kwargs):
        number = len(self.calls)
        self.calls.append((function, args))
        job = FakeJob(str(number))
        try:
            if number in self.faults:
                raise self.faults[number]
            job.future.set_result(function(*args, **kwargs))
        except Exception as error:
            job.future.set_exception(error)
        return job

    def as_completed(self, jobs, timeout=None):
        ordered = list(jobs)
        if self.random:
            self.random.shuffle(ordered)
        return iter(ordered)

    def progress(self, text):
        self.lines.append(text)


class PoolManager:
    """Executes on a ``concurrent.futures`` executor, in whatever order tasks end."""

    def __init__(self, executor) -> None:
        self.executor = executor
        self.numbers = itertools.count()
        self.lines: list[str] = []

    def enqueue(self, function, *args, **kwargs):
        return FakeJob(str(next(self.numbers)), self.executor.submit(function, *args, **kwargs))

    def as_completed(self, jobs, timeout=None):
        by_future = {job.future: job for job in jobs}
        for future in as_completed(by_future, timeout):
            yield by_future[future]

    def progress(self, text):
        self.lines.append(text)
