"""Tasks of a case, as stock RQ jobs: enqueue them, and take results as they come."""

from __future__ import annotations

import pickle
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import BuiltinFunctionType, FunctionType
from typing import Any
from uuid import uuid4

from rq import Queue
from rq.job import Job

from gutscore_rs.durations import parse_runtime
from gutscore_rs.errors import WorkersNotReadyError
from gutscore_rs.lazy_job import LazyJob
from gutscore_rs.store import NewJob, Store, task_queue
from gutscore_rs.store.connection import translated

# XREAD names every stream it waits for: above this many pending jobs it looks at a window of them.
WINDOW = 2000
BLOCK_SECONDS = 1.0
WORTH_COMPRESSING = 1000
LONGEST_SHOWN = 75


class Tasks:
    """The task side of a case.

    Args:
        store: The case's store.
        queues: Short names of its task queues, the first is the default.
    """

    def __init__(self, store: Store, queues: tuple[str, ...] = ("tasks",)) -> None:
        self._store = store
        self._queues = queues

    def queue(self, name: str | None = None) -> Queue:
        """A task queue as an ordinary ``rq.Queue``: all of RQ works on it.

        Raises:
            KeyError: The case has no queue of that name.
        """
        if name is not None and name not in self._queues:
            raise KeyError(f"Case {self._store.case!r} has no task queue {name!r}; it has {', '.join(self._queues)}.")
        return Queue(task_queue(self._store.case, name or self._queues[0]), connection=self._store.client)

    def enqueue(
        self, function: Callable[..., Any], *args: Any, time_request: float | str | None = None, **kwargs: Any
    ) -> Job:
        """Put a call on the default task queue; keywords as in ``rq.Queue.enqueue``, and one of ours.

        Args:
            function: What to call.
            args: Its arguments.
            time_request: How long it takes at most, in seconds or as a Slurm time; no worker begins it whose set has
                less time left. None: any worker begins it.
            kwargs: Its keyword arguments, and RQ's.

        Raises:
            DurationError: (a ValueError) That is no length of time.
        """
        if time_request is None:
            with translated(self._store.where):
                return self.queue().enqueue(function, *args, **kwargs)
        return self._enqueue_timed(parse_runtime(time_request), function, args, kwargs)

    def enqueue_many(
        self,
        calls: Iterable[tuple[Callable[..., Any] | str, Sequence[Any]]],
        *,
        queue: str | None = None,
        timeout: int | None = None,
        result_ttl: int | None = None,
        time_request: float | str | None = None,
    ) -> list[Job]:
        """Put many calls on a task queue at once: ordinary RQ jobs, several times as fast as ``Queue.enqueue_many``.

        Args:
            calls: Functions, or their dotted names, with their positional arguments. What needs more (callbacks,
                retries, dependencies) goes by :meth:`queue` and RQ.
            queue: Short name of the queue; None: the default.
            timeout: Seconds that each may run, -1 for ever; None: RQ's default.
            result_ttl: Seconds to keep the results; None: RQ's default.
            time_request: As in :meth:`enqueue`.

        Returns:
            The jobs, which are read from Redis when they are looked at.

        Raises:
            TypeError: Something is no function that a worker could import.
        """
        seconds = None if time_request is None else parse_runtime(time_request)
        new = [_new_job(function, arguments, timeout, result_ttl, seconds) for function, arguments in calls]
        self._store.new_jobs.enqueue(self.queue(queue).name, new)
        return [LazyJob(job.job_id, self._store.client) for job in new]

    def _enqueue_timed(
        self, seconds: int, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Job:
        """As :meth:`enqueue`; the job's hash has its time before its queue has the job, or a worker might be faster."""
        job_id = kwargs.pop("job_id", None) or str(uuid4())
        with translated(self._store.where):
            self._store.client.hset(self._store.rq_keys.job(job_id), "gs_time", seconds)
            try:
                return self.queue().enqueue(function, *args, job_id=job_id, **kwargs)
            except BaseException:
                self._store.client.delete(self._store.rq_keys.job(job_id))
                raise

    def as_completed(
        self, jobs: Iterable[Job], timeout: float | None = None, heed: Callable[[], None] | None = None
    ) -> Iterator[Job]:
        """Yield jobs as they finish or fail, whatever their order; nothing is polled per job.

        One blocking ``XREAD`` waits for the result streams of all pending jobs. Jobs that end without a result
        (``result_ttl=0``, deleted, cancelled) are noticed within a few seconds.

        Args:
            jobs: What to wait for; each is refreshed before it is yielded.
            timeout: Seconds for all of them, None: as long as it takes.
            heed: Called about once a second while waiting; what it raises ends the waiting.

        Raises:
            WorkersNotReadyError: (also TimeoutError) Some are not done in time.
        """
        keys = self._store.rq_keys
        pending = {keys.results(job.id).encode(): job for job in jobs}
        positions: dict[bytes, bytes] = dict.fromkeys(pending, b"0-0")
        ends = time.monotonic() + timeout if timeout is not None else float("inf")
        quiet = 0
        while pending:
            if time.monotonic() >= ends:
                raise WorkersNotReadyError(f"{len(pending)} tasks are not done after {timeout:.0f} s.")
            window = {key: positions[key] for key in list(pending)[:WINDOW]}
            arrived = self._arrived(window, min(BLOCK_SECONDS, ends - time.monotonic()))
            positions.update(arrived)
            quiet = 0 if arrived else quiet + 1
            if heed:
                heed()
            candidates = list(arrived) if arrived or quiet % 3 else self._ended_silently(pending)
            for key in candidates:
                # A returned or raised Retry writes a result too, and the job goes on: it is not done.
                if self._refresh(pending[key]):
                    yield pending.pop(key)

    def _refresh(self, job: Job) -> bool:
        """Read a job again; whether it is over, or gone."""
        with translated(self._store.where):
            if not Job.exists(job.id, connection=self._store.client):
                return True
            job.refresh()
        return job.get_status(refresh=False) in ("finished", "failed", "stopped", "canceled")

    def _arrived(self, positions: dict[bytes, bytes], seconds: float) -> dict[bytes, bytes]:
        """Streams with news, and the id of their newest entry."""
        streams: dict[Any, Any] = dict(positions)
        with translated(self._store.where):
            reply: Any = self._store.client.xread(streams, block=max(1, int(seconds * 1000)))
        rows = reply.items() if isinstance(reply, dict) else reply or []
        return {stream: entries[-1][0] for stream, entries in rows if entries}

    def _ended_silently(self, pending: dict[bytes, Job]) -> list[bytes]:
        with translated(self._store.where):
            pipeline = self._store.client.pipeline(transaction=False)
            for job in pending.values():
                pipeline.hget(job.key, "status")
            statuses = pipeline.execute()
        over = (None, b"finished", b"failed", b"stopped", b"canceled")
        return [key for key, status in zip(pending, statuses, strict=True) if status in over]


def _new_job(
    function: Callable[..., Any] | str,
    arguments: Sequence[Any],
    timeout: int | None,
    result_ttl: int | None,
    time_request: int | None,
) -> NewJob:
    name = function if isinstance(function, str) else _dotted_name(function)
    pickled = pickle.dumps((name, None, tuple(arguments), {}), protocol=pickle.HIGHEST_PROTOCOL)
    # RQ compresses whatever it is; what is short gets longer by it, and it takes most of the time.
    data = zlib.compress(pickled, 1 if len(pickled) > WORTH_COMPRESSING else 0)
    shown = ", ".join(map(repr, arguments))
    description = f"{name}({shown if len(shown) <= LONGEST_SHOWN else shown[: LONGEST_SHOWN - 3] + '...'})"
    return NewJob(str(uuid4()), data, description, timeout, result_ttl, time_request)


def _dotted_name(function: Callable[..., Any]) -> str:
    """As RQ writes it (``Job.create``).

    Raises:
        TypeError: It is no function that a module holds.
    """
    if not isinstance(function, FunctionType | BuiltinFunctionType) or "<" in function.__qualname__:
        raise TypeError(
            f"{function!r} is no function that a module holds, so no worker could import it. Use `Queue.enqueue` for "
            "methods, and an executor (`manager.executor()`) for lambdas and functions of a notebook."
        )
    return f"{function.__module__}.{function.__qualname__}"
