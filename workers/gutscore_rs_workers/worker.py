"""A worker: claims RQ jobs one after the other and runs them in its own process.

Its launcher forks it, registers it, beats for it, wakes it when there is work, and buries it. Signals:
SIGTERM cuts the running job (it goes back to its queue) and ends the worker; SIGINT is ignored, since a Ctrl-C is the
requester's business. Exit code 0: in order; 75: in order, but it may hold a job; 70: an error of ours.
"""

from __future__ import annotations

import contextlib
import logging
import random
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from gutscore_rs.access import Access
from gutscore_rs.errors import StoreError, StoreUnavailableError
from gutscore_rs.store import Claim, Store
from gutscore_rs.store.connection import translated
from gutscore_rs_workers.rq_bridge import (
    DEFAULT_FAILURE_TTL,
    JobBooks,
    exception_info,
    result_ttl,
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


class JobCut(BaseException):
    """SIGTERM while a job ran: it is put back. Not an Exception, so that user code does not swallow it."""


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What a launcher gives to a worker at its fork."""

    access: Access
    index: int
    rq_name: str
    queues: Sequence[str]
    control: socket.socket
    memory: SharedMemory
    timeout_grace: float


class Worker:
    """The loop of one worker process."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._memory = context.memory
        self._stopping = False
        self._in_user_code = False
        self._unsure = False
        self._registered = False

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
                self._wait(0.2)
                continue
            claim = self._claim()
            if claim is None:
                # Unsure, it must look again by itself: nobody else would find a job that it holds unawares.
                if not self._unsure:
                    self._rest()
                continue
            self._tell(TOOK)
            self._run_claim(claim)
        return EXIT_UNSURE if self._unsure else 0

    def _rest(self) -> None:
        """Wait for work, and say so again now and then, should a wake-up have been lost."""
        woken = False
        while not woken and not self._leaving():
            if self._registered:
                self._tell(IDLE)
            woken = self._wait(SAY_AGAIN)

    def _open(self) -> None:
        self._store = Store.open(self._context.access, name=self._context.rq_name)
        self._books = JobBooks(self._context.rq_name, self._store.client)
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

    def _claim(self) -> Claim | None:
        try:
            if self._unsure:
                self._give_back_unbegun()
            end = self._memory.work_end
            left = end - time.monotonic() if end else None
            return self._store.jobs.claim(self._context.queues, self._context.rq_name, left)
        except StoreError as error:
            # The claim may have been made although its reply was lost.
            self._unsure = True
            log.warning("cannot look for jobs: %s", error)
            self._wait(0.5 + random.random())  # noqa: S311 - jitter
            return None

    def _give_back_unbegun(self) -> None:
        jobs, name = self._store.jobs, self._context.rq_name
        jobs.fence_claims(name)
        for job_id, execution, queue in jobs.held_by(name):
            if queue:
                jobs.put_back(job_id, execution, queue, name)
            else:
                jobs.drop_claim(name, job_id, execution)
        self._unsure = False

    def _run_claim(self, claim: Claim) -> None:
        try:
            timeout, job = claim.timeout, self._books.job_of(claim)
        except Exception as error:
            log.exception("job %s cannot be read", claim.job_id)
            text = f"The job cannot be read: {error!r}"
            self._persist(lambda: self._store.jobs.fail(claim, text=text, ttl=DEFAULT_FAILURE_TTL))
            return
        deadline = 0.0 if timeout < 0 else time.monotonic() + timeout + self._context.timeout_grace
        self._memory.write(self._context.index, Cursor(claim.execution, deadline, timeout < 0))
        self._run_job(claim, job)
        # Left as it is when that raised: a job which breaks its worker fails with it, and breaks no other.
        self._memory.write(self._context.index, Cursor())

    def _run_job(self, claim: Claim, job: Any) -> None:
        started = time.monotonic()
        try:
            value = self._perform(job)
        except JobCut:
            self._persist(lambda: self._store.jobs.put_back(claim.job_id, claim.execution, claim.queue, claim.worker))
        except BaseException as error:  # noqa: BLE001 - a task may raise anything, SystemExit too
            log.warning("job %s failed: %r", claim.job_id, error)
            exc_info = exception_info()
            self._persist(lambda: self._fail(claim, job, exc_info))
        else:
            worked = time.monotonic() - started
            self._persist(lambda: self._succeed(claim, job, value, worked))

    def _perform(self, job: Any) -> Any:
        self._in_user_code = True
        try:
            if self._stopping:
                raise JobCut
            return self._books.perform(job)
        finally:
            self._in_user_code = False

    def _succeed(self, claim: Claim, job: Any, value: Any, worked: float) -> str:
        ttl = result_ttl(job)
        if claim.is_plain and ttl != 0 and not wants_another_run(value):
            outcome = self._store.jobs.finish(claim, result=self._serialized(job, value), result_ttl=ttl, worked=worked)
            if outcome != "complex":
                return outcome
        return self._book(claim, lambda: self._books.succeeded(claim, job, value))

    def _fail(self, claim: Claim, job: Any, exc_info: Any) -> str:
        return self._book(claim, lambda: self._books.failed(claim, job, exc_info))

    def _book(self, claim: Claim, write: Callable[[], None]) -> str:
        """Let RQ's code book an outcome; as it keeps some of its failures to itself, see that it did."""
        if not self._store.jobs.holds(claim):
            return "fenced"
        with translated(self._store.where):
            write()
        if self._store.jobs.holds(claim):
            raise StoreUnavailableError(f"RQ could not book the outcome of job {claim.job_id}")
        return "ok"

    @staticmethod
    def _serialized(job: Any, value: Any) -> bytes | None:
        if value is None:
            return None
        try:
            return bytes(job.serializer.dumps(value))
        except Exception:  # noqa: BLE001 - as rq.results: the job is finished, its value is not storable
            return bytes(job.serializer.dumps("Unserializable return value"))

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
