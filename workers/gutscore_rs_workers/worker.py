"""A worker: claims RQ jobs in batches and runs them one after the other in its own process.

Its launcher forks it, registers it, beats for it, wakes it when there is work, and buries it. Signals:
SIGTERM cuts the running job (it goes back to its queue) and ends the worker; SIGINT is ignored, since a Ctrl-C is the
requester's business. Exit code 0: in order; 75: in order, but it may hold a job; 70: an error of ours.

What it has done lies in an outbox until Redis knows it, and one call books that and takes the next batch. A job that
was taken and not begun when the worker ends, or loses its lease, goes back to where it was.
"""

from __future__ import annotations

import contextlib
import logging
import random
import signal
import socket
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

import redis

from gutscore_rs.calls import largest_result, seal_error, seal_value
from gutscore_rs.errors import StoreError, StoreUnavailableError, TaskTimeoutError
from gutscore_rs.store import Claim, End, Jobs
from gutscore_rs.store.connection import translated
from gutscore_rs_workers.isolation import perform_apart
from gutscore_rs_workers.pace import LARGEST_BATCH, Pace
from gutscore_rs_workers.performing import Performer
from gutscore_rs_workers.rq_bridge import (
    DEFAULT_FAILURE_TTL,
    JobBooks,
    JobTimeoutException,
    NoSuchJobError,
    exception_info,
    wants_another_run,
)
from gutscore_rs_workers.shared_memory import Cursor, SharedMemory

log = logging.getLogger(__name__)

# EX_TEMPFAIL of sysexits.h: in order, but a claim may have been made whose reply was lost.
EXIT_UNSURE = 75
READY, IDLE, TOOK = b"R", b"I", b"J"
WAKE, REGISTERED, QUIT = b"W", b"G", b"Q"
# An idle worker says so again, should a wake-up have been lost.
SAY_AGAIN = 10.0
LINGER_SECONDS = 0.05
# As rq.results: the job is finished, its value is not storable.
UNSERIALIZABLE = "Unserializable return value"


class JobCut(BaseException):
    """SIGTERM while a job ran: it is put back. Not an Exception, so that user code does not swallow it."""


class JobStore(Protocol):
    """What of a store a worker needs."""

    @property
    def client(self) -> redis.Redis: ...
    @property
    def jobs(self) -> Jobs: ...
    @property
    def where(self) -> str: ...
    def ping(self) -> bool: ...
    def time(self) -> float: ...


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What a launcher gives to a worker at its fork.

    Attributes:
        open_store: Opens a store of the worker's own.
        open_books: Makes RQ's book-keeping over the store's connection.
        largest_batch: How many jobs it may take at once.
        signing_key: The case's, to open the calls of its executors; None: it is of no case.
        isolated: Whether each job gets a process of its own.
        max_jobs: How many it may take before it ends; None: any number.
        reorder: The order of the queues after a job of one of them; None: it stays.
    """

    open_store: Callable[[], JobStore]
    open_books: Callable[[str, redis.Redis], JobBooks]
    index: int
    rq_name: str
    queues: Sequence[str]
    control: socket.socket
    memory: SharedMemory
    timeout_grace: float
    largest_batch: int = LARGEST_BATCH
    signing_key: bytes | None = None
    isolated: bool = False
    max_jobs: int | None = None
    reorder: Callable[[list[str], str], list[str]] | None = None


@dataclass(slots=True)
class Done:
    """Ends that Redis does not know yet."""

    ends: list[End] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    worked: float = 0.0


class Worker:
    """The loop of one worker process."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._memory = context.memory
        self._pace = Pace(context.largest_batch)
        self._queues = list(context.queues)
        self._batch = 0
        self._jobs = 0
        self._done = Done()
        self._stopping = False
        self._in_user_code = False
        self._unsure = False
        self._registered = False
        self._rested = False
        self._ran_a_job = False

    def run(self) -> int:
        """Serve until told to stop; the exit code."""
        signal.signal(signal.SIGTERM, self._on_term)
        self._tell(READY)
        # A connection costs more time and memory than the fork did: one that never has work needs none.
        self._rest()
        if not self._leaving():
            self._open()
        while not self._leaving():
            if not self._may_claim():
                self._settle()
                self._wait(0.2)
                continue
            claims = self._claim()
            if claims:
                self._run_batch(claims)
            elif not self._unsure:
                # Unsure, it must look again by itself: nobody else would find a job that it holds unawares.
                self._rest()
        self._settle()
        return EXIT_UNSURE if self._unsure else 0

    def _rest(self) -> None:
        """Wait for work, and say so again now and then, should a wake-up have been lost."""
        woken = self._ran_a_job and self._linger()
        self._rested, self._ran_a_job = True, False
        while not woken and not self._leaving():
            if self._registered:
                self._tell(IDLE)
            woken = self._wait(SAY_AGAIN)

    def _linger(self) -> bool:
        """Wait a moment for the next job at the queue itself: who sends one after another shall not wait for wake-ups.

        One worker of a launcher does so at a time: all would be woken by each job.

        Returns:
            Whether there is one.
        """
        if len(self._queues) > 1 or not self._memory.begin_linger(
            self._context.index, time.monotonic() + 2 * LINGER_SECONDS
        ):
            return False
        try:
            return self._store.jobs.await_one(self._queues[0], LINGER_SECONDS)
        except StoreError:
            return False
        finally:
            self._memory.end_linger(self._context.index)

    def _open(self) -> None:
        self._store = self._context.open_store()
        self._books = self._context.open_books(self._context.rq_name, self._store.client)
        self._store.jobs.keep_line()
        self._performer = Performer(plain=self._books.is_stock, key=self._context.signing_key)
        self._connect()

    def _leaving(self) -> bool:
        return self._stopping or self._memory.draining

    def _may_claim(self) -> bool:
        """Only within the lease: the workers of a stopped launcher take nothing (rulings 22).

        And only once registered: else nobody would find the jobs of one that dies with its launcher.
        """
        return self._registered and time.monotonic() < self._memory.lease_end

    def _connect(self) -> None:
        while not self._leaving():
            try:
                self._store.ping()
            except StoreUnavailableError:
                self._wait(0.2 + random.random() * 0.3)  # noqa: S311 - jitter
            else:
                return

    # -- claiming and booking --------------------------------------------------------------------------------

    def _claim(self) -> Sequence[Claim]:
        """Book what is done and take jobs."""
        try:
            if self._unsure:
                self._exchange(0)
                self._give_back_unbegun()
            return self._exchange(self._most())
        except StoreError as error:
            # The claim may have been made although its reply was lost.
            self._unsure = True
            log.warning("cannot look for jobs: %s", error)
            self._wait(0.5 + random.random())  # noqa: S311 - jitter
            return ()

    def _most(self) -> int:
        left = self._context.max_jobs
        return self._pace.size if left is None else min(self._pace.size, left - self._jobs)

    def _exchange(self, most: int) -> Sequence[Claim]:
        done, left = self._done, None
        if not done.ends and not most:
            return ()
        if most and self._memory.work_end:
            left = self._memory.work_end - time.monotonic()
        got = self._store.jobs.exchange(
            self._queues,
            self._context.rq_name,
            done.ends,
            most=most,
            seconds=left,
            worked=done.worked,
            # Whoever watches us wrote records, if a job lasted.
            recorded=self._memory.taken_batch(self._context.index) == self._batch,
        )
        if done.ends:
            self._done = Done()
            for outcome, end, claim in zip(got.outcomes, done.ends, done.claims, strict=True):
                self._heed(outcome, end, claim)
            # Only now: until RQ's code has booked what is its own business, our death would lose it.
            self._memory.clear_ends(self._context.index)
        # Others shall help with the rest; of a single job the launcher learns when it is over, or lasts.
        if got.claims and self._rested and got.more:
            self._rested = False
            self._tell(TOOK)
        return got.claims

    def _heed(self, outcome: str, end: End, claim: Claim) -> None:
        if outcome == "fenced":
            log.warning("job %s was given to another worker meanwhile; its outcome here is dropped", end.job_id)
        elif outcome == "complex":
            value = self._books.serializer.loads(b64decode(end.result)) if end.result else None
            self._persist(lambda: self._book_success(claim, self._books.job_of(claim), value, end.started_at))

    def _settle(self) -> None:
        """Book what is done, and take nothing."""
        if self._done.ends:
            self._persist(self._book_done)

    def _book_done(self) -> str:
        self._exchange(0)
        return "ok"

    def _give_back_unbegun(self) -> None:
        jobs, name = self._store.jobs, self._context.rq_name
        jobs.fence_claims(name)
        for job_id, execution, queue in jobs.held_by(name):
            if queue:
                jobs.put_back(job_id, execution, queue, name)
            else:
                jobs.drop_claim(name, job_id, execution)
        self._unsure = False

    def _put_back(self, claims: Sequence[Claim]) -> None:
        """Jobs that were not begun, or cut, go back to where they were."""
        put_back = self._store.jobs.put_back
        for claim in reversed(claims):
            self._persist(lambda one=claim: put_back(one.job_id, one.execution, one.queue, one.worker))  # type: ignore[misc]

    # -- running ---------------------------------------------------------------------------------------------

    def _run_batch(self, claims: Sequence[Claim]) -> None:
        self._batch += 1
        self._ran_a_job = True
        begun_at, longest = time.monotonic(), 0.0
        clock = claims[0].started_at - begun_at
        last, count = begun_at, len(claims)
        for position, claim in enumerate(claims):
            # A job that is taken may still wait for a long one before it: its lease may be over, or the set.
            if position and (self._leaving() or not self._may_claim()):
                self._put_back(claims[position:])
                break
            if not self._run_claim(claim, last, clock, count - position - 1):
                # Whoever took the batch has put these back, or could not: again does no harm.
                self._put_back(claims[position:])
                break
            now = time.monotonic()
            longest = max(longest, now - last)
            last = now
        # Left as it is when a job raised through: one that breaks its worker fails with it, and breaks no other.
        self._memory.write(self._context.index, Cursor())
        self._pace.learn(count, last - begun_at, longest)
        self._count(count, claims[0].queue)

    def _count(self, jobs: int, queue: str) -> None:
        self._jobs += jobs
        self._memory.set_jobs_done(self._context.index, self._jobs)
        if self._context.max_jobs is not None and self._jobs >= self._context.max_jobs:
            self._stopping = True
        if self._context.reorder:
            self._queues = self._context.reorder(self._queues, queue)

    def _run_claim(self, claim: Claim, now: float, clock: float, behind: int) -> bool:
        """Run one job; False: it was not run to its end, and those behind it are not to be begun."""
        index, timeout = self._context.index, claim.timeout
        deadline = 0.0 if timeout < 0 else now + timeout + self._context.timeout_grace
        self._memory.write(index, Cursor(claim.execution, deadline, timeout < 0, now, self._batch, behind))
        # After the cursor is written: so either the launcher sees this job begun, or we see that it took it back.
        if self._memory.taken_batch(index) == self._batch:
            return False
        try:
            job, _ = self._job_of(claim), claim.result_ttl(self._books.default_result_ttl)
        except NoSuchJobError:
            self._persist(lambda: self._drop(claim))
            return True
        except Exception as error:  # noqa: BLE001 - whatever users, or others, wrote into Redis
            garbage = error
            self._persist(lambda: self._book_garbage(claim, garbage))
            return True
        return self._run_job(claim, job, now + clock, clock)

    def _job_of(self, claim: Claim) -> Any:
        """The job as RQ's object; what must be read from Redis is waited for."""
        while True:
            try:
                with translated(self._store.where):
                    return self._books.job_of(claim)
            except StoreUnavailableError as error:
                log.warning("a job waits for Redis: %s", error)
                time.sleep(0.2 + random.random() * 0.3)  # noqa: S311 - jitter

    def _run_job(self, claim: Claim, job: Any, started_at: float, clock: float) -> bool:
        try:
            value = self._perform(claim, job)
        except JobCut:
            return False
        except BaseException as error:  # noqa: BLE001 - a task may raise anything, SystemExit too
            ended_at = time.monotonic() + clock
            if self._is_awaited(claim) and not claim.may_retry:
                self._answer_error(claim, error, started_at, ended_at)
                return True
            log.warning("job %s failed: %r", claim.job_id, error)
            exc_info = exception_info()
            self._persist(lambda: self._book_failure(claim, job, exc_info, started_at))
        else:
            self._succeed(claim, job, value, started_at, time.monotonic() + clock)
        return True

    def _perform(self, claim: Claim, job: Any) -> Any:
        self._in_user_code = True
        try:
            if self._stopping:
                raise JobCut
            if self._context.isolated:
                return self._perform_apart(claim, job)
            return self._performer.perform(claim, job)
        finally:
            self._in_user_code = False

    def _perform_apart(self, claim: Claim, job: Any) -> Any:
        def stand_in(error: Exception) -> Any:
            if self._is_awaited(claim):
                raise error
            return UNSERIALIZABLE

        # Before the launcher would take the whole worker for hung.
        limit = None if claim.timeout < 0 else claim.timeout + self._context.timeout_grace / 2
        return perform_apart(lambda: self._performer.perform(claim, job), seconds=limit, stand_in=stand_in)

    def _succeed(self, claim: Claim, job: Any, value: Any, started_at: float, ended_at: float) -> None:
        if self._is_awaited(claim):
            self._answer(claim, value, started_at, ended_at)
            return
        ttl = claim.result_ttl(self._books.default_result_ttl)
        if not claim.is_plain or ttl == 0 or wants_another_run(value):
            self._persist(lambda: self._book_success(claim, job, value, started_at))
            return
        result = self._serialized(value)
        end = End(claim.queue, claim.job_id, claim.execution, ttl, started_at, ended_at, result)
        self._note(end, claim)

    def _is_awaited(self, claim: Claim) -> bool:
        """Whether an executor waits for the result, and this worker can answer it."""
        return self._context.signing_key is not None and bool(claim.reply)

    def _answer(self, claim: Claim, value: Any, started_at: float, ended_at: float) -> None:
        key = self._context.signing_key or b""
        try:
            result = seal_value(key, claim.job_id, value, largest=largest_result(claim.data))
        except BaseException as error:  # noqa: BLE001 - pickling runs the task's code
            self._answer_error(claim, error, started_at, ended_at)
        else:
            self._send(claim, result, started_at, ended_at, wrong=False)

    def _answer_error(self, claim: Claim, error: BaseException, started_at: float, ended_at: float) -> None:
        if isinstance(error, JobTimeoutException):
            error = TaskTimeoutError(str(error)).with_traceback(error.__traceback__)
        result = seal_error(self._context.signing_key or b"", claim.job_id, error)
        self._send(claim, result, started_at, ended_at, wrong=True)

    def _send(self, claim: Claim, result: bytes, started_at: float, ended_at: float, *, wrong: bool) -> None:
        name, reply = claim.execution, claim.reply
        self._note(End(claim.queue, claim.job_id, name, 0, started_at, ended_at, result, reply, wrong), claim)

    def _note(self, end: End, claim: Claim) -> None:
        """An end waits for the next call, where nothing can lose it; one that finds no room there is booked now."""
        done = self._done
        done.ends.append(end)
        done.claims.append(claim)
        done.worked += end.ended_at - end.started_at
        if not self._memory.put_end(self._context.index, end):
            self._settle()

    def _serialized(self, value: Any) -> bytes:
        if value is None:
            return b""
        dumps = self._books.serializer.dumps
        try:
            return b64encode(dumps(value))
        except Exception:  # noqa: BLE001 - pickling runs the job's code
            return b64encode(dumps(UNSERIALIZABLE))

    def _book_success(self, claim: Claim, job: Any, value: Any, started_at: float) -> str:
        return self._book(claim, lambda: self._books.succeeded(claim, job, value, started_at))

    def _book_failure(self, claim: Claim, job: Any, exc_info: Any, started_at: float) -> str:
        return self._book(claim, lambda: self._books.failed(claim, job, exc_info, started_at))

    def _book(self, claim: Claim, write: Callable[[], None]) -> str:
        """Let RQ's code book an outcome; as it keeps some of its failures to itself, see that it did."""
        if not self._store.jobs.holds(claim):
            return "fenced"
        try:
            with translated(self._store.where):
                write()
        except NoSuchJobError:
            return self._drop(claim)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001 - garbage in the record, or a callback
            return self._book_garbage(claim, error)
        if self._store.jobs.holds(claim):
            raise StoreUnavailableError(f"RQ could not book the outcome of job {claim.job_id}")
        if claim.reply:
            self._store.jobs.notify(claim.job_id)
        return "ok"

    def _book_garbage(self, claim: Claim, error: Exception) -> str:
        log.error("job %s cannot be read", claim.job_id, exc_info=error)
        text = f"The job cannot be read: {error!r}"
        outcome = self._store.jobs.fail(claim, text=text, ttl=DEFAULT_FAILURE_TTL)
        if claim.reply:
            self._store.jobs.notify(claim.job_id)
        return outcome

    def _drop(self, claim: Claim) -> str:
        """Its user deleted the job meanwhile."""
        self._store.jobs.drop_claim(claim.worker, claim.job_id, claim.execution)
        return "ok"

    def _persist(self, write: Callable[[], str]) -> None:
        """Book an outcome; an outage of Redis keeps it here until it is over (rulings 7)."""
        delay = 0.1
        while True:
            try:
                outcome = write()
            except StoreUnavailableError as error:
                log.warning("an outcome waits for Redis: %s", error)
                time.sleep(delay + random.random() * delay)  # noqa: S311 - jitter
                delay = min(delay * 2, 5.0)
                continue
            if outcome == "fenced":
                log.warning("a job of this worker was given to another meanwhile; its outcome here is dropped")
            return

    # -- the launcher ----------------------------------------------------------------------------------------

    def _tell(self, message: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._context.control.send(message)

    def _wait(self, seconds: float) -> bool:
        """Wait for a word of the launcher; its end of the pipe closing means that it died.

        Returns:
            Whether there is work.
        """
        control = self._context.control
        control.settimeout(seconds)
        try:
            message = control.recv(64)
        except (TimeoutError, InterruptedError):
            return False
        except OSError:
            message = b""
        if REGISTERED in message:
            self._registered = True
        if not message or QUIT in message:
            self._stopping = True
        return WAKE in message

    def _on_term(self, _signum: int, _frame: FrameType | None) -> None:
        self._stopping = True
        if self._in_user_code:
            self._in_user_code = False
            raise JobCut
