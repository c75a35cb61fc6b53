"""A ``concurrent.futures.Executor`` whose calls run on the workers of a case."""

from __future__ import annotations

import atexit
import itertools
import secrets
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor as BaseExecutor
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from gutscore_rs.access import Access
from gutscore_rs.calls import Call, open_result, seal_call
from gutscore_rs.durations import parse_runtime
from gutscore_rs.errors import (
    ConfigError,
    DependencyError,
    ExecutorBrokenError,
    GutscoreError,
    TaskFailedError,
    WalltimeError,
    WorkerLostError,
)
from gutscore_rs.executor.futures import CallFuture
from gutscore_rs.executor.incoming import Incoming
from gutscore_rs.executor.outgoing import Letter, Outgoing
from gutscore_rs.executor.outlook import look_ahead
from gutscore_rs.store import CallRecord, CallState, Store, task_queue
from gutscore_rs.store.jobs import LOOK_AT_JOB

LARGEST = 256 << 20
DEFAULT_TIMEOUT = 180
# How many pending calls are looked at in a round of the slow check, and after how many quiet rounds it begins.
LOOKS_A_ROUND, QUIET_ROUNDS = 500, 2
CANCELS_A_CALL = 500


class CaseLike(Protocol):
    """What of a case an executor needs."""

    @property
    def access(self) -> Access: ...
    @property
    def store(self) -> Store: ...
    @property
    def queues(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class CallOptions:
    """How calls are run.

    Attributes:
        timeout: Seconds that one may run; None: for ever.
        retries: How often one is run again when it raises, or its worker is lost.
        time_request: Seconds that it takes at most: no worker begins it whose set has less time left.
        queue: Short name of the task queue.
        depends_on: Futures that must have their results before it is sent.
    """

    timeout: float | None = DEFAULT_TIMEOUT
    retries: int = 0
    time_request: int | None = None
    queue: str = "tasks"
    depends_on: tuple[Future[Any], ...] = ()


class Executor(BaseExecutor):
    """Runs calls on the workers of a case, wherever they are, through its Redis.

    What it promises is what :mod:`concurrent.futures` says, and: a call that was sent survives every crash but the
    driver's own, its result is delivered once, nothing polls. Functions of ``__main__`` and lambdas go by value.
    Arguments and results are copied, signed with the case's key.

    Args:
        case: The open case.
        max_bytes: Most bytes of one call's function and arguments, and of its result.
        worker_wait: Seconds to wait while no resource set is requested or active before all calls fail with
            :class:`~gutscore_rs.errors.ExecutorBrokenError`; None: for ever.
        timeout, retries, time_request, queue: As in :meth:`options`, for all calls.
    """

    def __init__(
        self, case: CaseLike, *, max_bytes: int = LARGEST, worker_wait: float | None = 60.0, **options: Any
    ) -> None:
        self._engine = _Engine(case, max_bytes, worker_wait)
        self._options = _changed(CallOptions(queue=case.queues[0]), case.queues, options)

    def options(self, **options: Any) -> Executor:
        """The same executor with other options for what is submitted through it.

        Args:
            options: ``timeout`` (s; None: for ever), ``retries`` (when it raises or loses its worker), ``time_request``
                (s or a Slurm time: how long it takes at most), ``queue`` (short name; queues that come first in the
                case's configuration are served first), ``depends_on`` (futures whose results must be there first).

        Raises:
            ConfigError: (a ValueError) There is no such option or queue, or the value cannot be.
        """
        other = object.__new__(type(self))
        other._engine = self._engine
        other._options = _changed(self._options, self._engine.queues, options)
        return other

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> CallFuture:
        """Have a call run.

        Returns once it is noted here; it is in Redis a moment later, and should that fail, the future does.

        Raises:
            RuntimeError: The executor was shut down; (also ``concurrent.futures.BrokenExecutor``) it is broken.
            PayloadTooLargeError: (a ValueError) Its arguments are more than may go through Redis.
        """
        return self._engine.submit((fn, args, kwargs), self._options)

    def map(
        self,
        fn: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """Results of ``fn`` over the iterables, in their order.

        Args:
            fn: What to call.
            iterables: Its arguments, one of each.
            timeout: Seconds from this call within which each result must be there.
            chunksize: How many calls go as one: for very short ones.
            buffersize: How many are submitted ahead of what was taken; None: all, at once.

        Raises:
            TimeoutError: By the iterator: a result was not there in time.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        ends = None if timeout is None else time.monotonic() + timeout
        rows = zip(*iterables, strict=False)
        if chunksize > 1:
            chunks = iter(lambda: list(itertools.islice(rows, chunksize)), [])
            futures = (self.submit(_run_chunk, fn, chunk) for chunk in chunks)
            return itertools.chain.from_iterable(_in_order(futures, ends, buffersize))
        return _in_order((self.submit(fn, *row) for row in rows), ends, buffersize)

    @property
    def done(self) -> dict[str, int]:
        """How many of its calls have returned (``finished``) and raised (``failed``) so far."""
        return dict(self._engine.done)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Args:
            wait: Return when all futures are done; else those that are pending still get their results.
            cancel_futures: Take back what no worker has begun.
        """
        self._engine.shutdown(wait=wait, cancel=cancel_futures)


def _run_chunk(function: Callable[..., Any], rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [function(*row) for row in rows]


def _in_order(futures: Iterator[CallFuture], ends: float | None, buffersize: int | None) -> Iterator[Any]:
    # Submitted now, not at the first look at the results: as the standard library's.
    ahead = deque(futures if buffersize is None else itertools.islice(futures, buffersize))

    def results() -> Iterator[Any]:
        try:
            while ahead:
                left = None if ends is None else max(0.0, ends - time.monotonic())
                value = ahead[0].result(left)
                ahead.popleft()
                if buffersize is not None:
                    ahead.extend(itertools.islice(futures, 1))
                yield value
        finally:
            for future in ahead:
                future.cancel()

    return results()


def _changed(options: CallOptions, queues: tuple[str, ...], changes: dict[str, Any]) -> CallOptions:
    unknown = set(changes) - set(CallOptions.__dataclass_fields__)
    if unknown:
        known = ", ".join(CallOptions.__dataclass_fields__)
        raise ConfigError(f"An executor knows no option {', '.join(sorted(unknown))}; it knows {known}.")
    if changes.get("time_request") is not None:
        changes["time_request"] = parse_runtime(changes["time_request"])
    if "depends_on" in changes:
        one = changes["depends_on"]
        changes["depends_on"] = (one,) if isinstance(one, Future) else tuple(one)
    new = replace(options, **changes)
    if new.queue not in queues:
        raise ConfigError(f"The case has no task queue {new.queue!r}; it has {', '.join(queues)}.")
    if new.retries < 0 or (new.timeout is not None and new.timeout <= 0):
        raise ConfigError("retries cannot be negative, and a timeout is more than 0 s (None: none at all).")
    return new


class _Engine:
    """What all views of an executor share: the futures that are not done, and the two threads."""

    def __init__(self, case: CaseLike, max_bytes: int, worker_wait: float | None) -> None:
        self._case = case
        self._store = case.store
        self._key = case.access.signing_key
        self.queues = case.queues
        self._max_bytes = max_bytes
        self._worker_wait = worker_wait
        self._id = secrets.token_hex(8)
        self._numbers = itertools.count()
        self._pending: dict[str, CallFuture] = {}
        self._time_requests: dict[str, int] = {}
        # Calls that wait here for what they depend on.
        self._held_back: set[str] = set()
        self._lock = threading.Lock()
        self._nothing_pending = threading.Condition(self._lock)
        self.done = {"finished": 0, "failed": 0}
        self._broken: ExecutorBrokenError | None = None
        self._down = False
        self._closed = False
        self._quiet = 0
        self._missing: set[str] = set()
        self._looked_at = 0
        self._hopeless_since = 0.0
        self._out = Outgoing(self._store, self._id, self._not_sent)
        self._in = Incoming(self._store, self._id, self._deliver, self._look_round)
        self._in.start()
        atexit.register(_shut_down_at_exit, weakref.ref(self))

    # -- out ------------------------------------------------------------------------------------------------

    def submit(self, call: Call, options: CallOptions) -> CallFuture:
        if self._broken:
            raise self._broken
        if self._down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        job_id = f"x{self._id}-{next(self._numbers):x}"
        data = seal_call(self._key, job_id, call, largest=self._max_bytes)
        queue = task_queue(self._case.access.case, options.queue)
        future = CallFuture(job_id, queue, self._take_back, self._is_running)
        record = CallRecord(
            job_id,
            data,
            -1 if options.timeout is None else max(1, round(options.timeout)),
            options.retries,
            options.time_request,
            _name_of(call[0]),
        )
        with self._lock:
            self._pending[job_id] = future
            if options.time_request:
                self._time_requests[job_id] = options.time_request
        if options.depends_on:
            self._held_back.add(job_id)
            self._send_after(Letter(record, future), options.depends_on)
        else:
            self._out.put(Letter(record, future))
        return future

    def _send_after(self, letter: Letter, others: Sequence[Future[Any]]) -> None:
        """Send a call once all that it depends on has results; the first that fails fails it."""
        left = itertools.count(len(others) - 1, -1)

        def one_more(other: Future[Any]) -> None:
            error = None if other.cancelled() else other.exception()
            if other.cancelled() or error is not None:
                failure = DependencyError(f"What the call {letter.record.description} depends on failed: {error!r}")
                failure.__cause__ = error
                self._held_back.discard(letter.record.job_id)
                self._end(letter.record.job_id, error=failure)
            elif next(left) == 0 and self._unhold(letter.future):
                self._out.put(letter)

        for other in others:
            other.add_done_callback(one_more)

    def _unhold(self, future: CallFuture) -> bool:
        """Whether a call waited here for what it depends on; it does no more."""
        with self._lock:
            held = future.job_id in self._held_back
            self._held_back.discard(future.job_id)
        return held

    def _unsend(self, future: CallFuture) -> bool:
        """Take back a call that is still here."""
        return self._unhold(future) or self._out.take_back(future.job_id)

    def _not_sent(self, letters: Sequence[Letter], error: GutscoreError) -> None:
        for letter in letters:
            self._end(letter.record.job_id, error=error)

    def _take_back(self, future: CallFuture) -> bool:
        if not self._unsend(future) and not self._store.calls.cancel(future.queue, [future.job_id])[0]:
            return False
        self._forget(future.job_id)
        return True

    def _is_running(self, future: CallFuture) -> bool:
        if future.job_id in self._held_back or self._out.holds(future.job_id):
            return False
        return self._store.calls.states([future.job_id])[future.job_id].status == "started"

    # -- in -------------------------------------------------------------------------------------------------

    def _deliver(self, job_id: str, payload: bytes) -> None:
        if job_id not in self._pending:
            return
        if payload == LOOK_AT_JOB:
            self._judge({job_id: self._store.calls.states([job_id])[job_id]})
            return
        try:
            value = open_result(self._key, job_id, payload)
        except BaseException as error:  # noqa: BLE001 - what the call raised, whatever it is
            self.done["failed"] += 1
            self._end(job_id, error=error)
        else:
            self.done["finished"] += 1
            self._end(job_id, value)

    def _end(self, job_id: str, value: Any = None, error: BaseException | None = None) -> None:
        future = self._forget(job_id)
        if future is None or future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)

    def _forget(self, job_id: str) -> CallFuture | None:
        with self._lock:
            future = self._pending.pop(job_id, None)
            self._time_requests.pop(job_id, None)
            if not self._pending:
                self._nothing_pending.notify_all()
        return future

    # -- now and then ---------------------------------------------------------------------------------------

    def _look_round(self, heard: bool) -> None:
        if self._down and not self._pending:
            self._close()
            return
        if not self._pending:
            return
        self._quiet = 0 if heard else self._quiet + 1
        self._look_ahead()
        if self._quiet >= QUIET_ROUNDS:
            self._look_at_records()

    def _look_at_records(self) -> None:
        """No news: some may have ended in a way that tells nobody (a worker of stock RQ, a server that lost data)."""
        with self._lock:
            held = self._held_back
            ids = [job_id for job_id in self._pending if job_id not in held and not self._out.holds(job_id)]
        if not ids:
            return
        start = self._looked_at % len(ids)
        window = (ids[start:] + ids[:start])[:LOOKS_A_ROUND]
        self._looked_at = start + len(window)
        self._judge(self._store.calls.states(window))

    def _judge(self, states: Mapping[str, CallState]) -> None:
        missing = set()
        for job_id, state in states.items():
            if state.status == "failed":
                self._end(job_id, error=_failure(state.text))
            elif state.status in ("stopped", "canceled"):
                self._end(job_id, error=TaskFailedError(f"The call's job {job_id} was {state.status}."))
            elif not state.status:
                # Its result may be on its way: only what is missing twice in quiet is lost.
                if job_id in self._missing:
                    self._end(job_id, error=TaskFailedError(f"Redis lost the call's job {job_id}, and no result came."))
                missing.add(job_id)
        self._missing = missing

    def _look_ahead(self) -> None:
        outlook = look_ahead(self._store)
        if not outlook.hopeless:
            self._hopeless_since = 0.0
            self._fail_what_is_too_long(outlook.longest)
            return
        now = time.monotonic()
        self._hopeless_since = self._hopeless_since or now
        if self._worker_wait is not None and now - self._hopeless_since > self._worker_wait:
            self._break(
                ExecutorBrokenError(
                    f"No worker can come to run {len(self._pending)} calls of case {self._case.access.case!r}: "
                    f"{outlook.why}. Request a resource set before submitting."
                )
            )

    def _fail_what_is_too_long(self, longest: float) -> None:
        with self._lock:
            late = {job_id: seconds for job_id, seconds in self._time_requests.items() if seconds > longest}
        for job_id, seconds in late.items():
            future = self._pending.get(job_id)
            if future is not None and self._take_back(future):
                future.set_exception(
                    WalltimeError(
                        f"The call takes up to {seconds} s, and of all resource sets that are requested or active none "
                        f"has more than {longest:.0f} s left. Request one with a longer runtime."
                    )
                )

    def _break(self, error: ExecutorBrokenError) -> None:
        self._broken = error
        with self._lock:
            futures = list(self._pending.values())
        for future in self._take_back_all(futures):
            future.set_exception(error)
        for future in futures:
            self._end(future.job_id, error=error)

    # -- the end --------------------------------------------------------------------------------------------

    def shutdown(self, *, wait: bool, cancel: bool) -> None:
        self._down = True
        if cancel:
            with self._lock:
                futures = list(self._pending.values())
            for future in self._take_back_all(futures):
                future.give_up()
        if not wait:
            if not self._pending:
                self._close()
            return
        with self._lock:
            while self._pending:
                self._nothing_pending.wait()
        self._close()

    def _take_back_all(self, futures: Sequence[CallFuture]) -> list[CallFuture]:
        """Those of the futures whose calls nobody will run."""
        back = [future for future in futures if self._unsend(future)]
        sent: dict[str, list[CallFuture]] = {}
        unsent = {future.job_id for future in back}
        for future in futures:
            if future.job_id not in unsent:
                sent.setdefault(future.queue, []).append(future)
        for queue, some in sent.items():
            for first in range(0, len(some), CANCELS_A_CALL):
                part = some[first : first + CANCELS_A_CALL]
                said = self._store.calls.cancel(queue, [future.job_id for future in part])
                back += [future for future, taken in zip(part, said, strict=True) if taken]
        for future in back:
            self._forget(future.job_id)
        return back

    def _close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._out.close()
        self._in.close()
        self._store.calls.forget(self._id)


def _name_of(function: Callable[..., Any]) -> str:
    inner = function.func if isinstance(function, partial) else function
    return f"{getattr(inner, '__module__', '')}.{getattr(inner, '__qualname__', type(inner).__name__)}"


def _failure(text: str) -> GutscoreError:
    last = text.strip().rpartition("\n")[2]
    prefix = f"{WorkerLostError.__name__}: "
    if last.startswith(prefix):
        return WorkerLostError(last.removeprefix(prefix))
    return TaskFailedError(text or "The call failed; its job says no more.")


def _shut_down_at_exit(engine: weakref.ref[_Engine]) -> None:
    if (one := engine()) is not None and not one._closed:  # noqa: SLF001 - of this module
        one.shutdown(wait=True, cancel=False)
