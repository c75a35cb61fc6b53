"""A fast worker for any RQ: ``rq worker -w gutscore_rs_workers.rq_worker.RqWorker queue ...``.

It reads and writes what stock workers (rq >= 3.0, < 4) do and nothing else, so both may serve one queue at once.
This process is the supervisor: it is what RQ knows as the worker, keeps its registration alive, obeys its commands and
runs its scheduler. A child performs the jobs, one after the other in one process, and is killed and replaced
when a job hangs beyond its timeout, is stopped by command, or takes the child down with it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import redis
from rq.defaults import DEFAULT_LOGGING_DATE_FORMAT, DEFAULT_LOGGING_FORMAT, RQ_KEY_PREFIX
from rq.suspension import is_suspended
from rq.worker import DequeueStrategy, Worker, WorkerStatus

from gutscore_rs.errors import StoreError
from gutscore_rs.store import Jobs
from gutscore_rs.store.connection import sibling, translated
from gutscore_rs.store.jobs import jobs_on
from gutscore_rs_workers.children import Child, End, fork_process, how_it_ended, new_nonce
from gutscore_rs_workers.peek import Lookout, QueuePeek
from gutscore_rs_workers.recovery import Remains, recover_worker, take_over
from gutscore_rs_workers.rq_bridge import JobBooks
from gutscore_rs_workers.shared_memory import SharedMemory
from gutscore_rs_workers.wakeup import wake_on
from gutscore_rs_workers.worker import IDLE, QUIT, READY, REGISTERED, TOOK, WAKE, WorkerContext
from gutscore_rs_workers.worker import Worker as Performer

log = logging.getLogger("rq.worker")

TICK = 1.0
GLANCE = 0.1
BEAT_SECONDS = 30.0
# A stopped supervisor's child takes no more jobs after this.
LEASE_SECONDS = 12.0
TIMEOUT_GRACE = 15.0
STOP_GRACE = 3.0
FIRST_BACKOFF, LONGEST_BACKOFF = 0.1, 10.0


@dataclass(frozen=True, slots=True)
class PlainRedis:
    """Any Redis with RQ's keys on it, as a worker needs it."""

    client: redis.Redis
    jobs: Jobs
    where: str = "Redis"

    @classmethod
    def over(cls, client: redis.Redis) -> PlainRedis:
        """With a connection of its own, of the settings of another's."""
        own = sibling(client)
        return cls(own, jobs_on(own, prefix=RQ_KEY_PREFIX))

    def ping(self) -> bool:
        """Whether the server answers."""
        with translated(self.where):
            return bool(self.client.ping())

    def time(self) -> float:
        """Seconds by the server's clock."""
        with translated(self.where):
            seconds, micros = self.client.time()
        return float(seconds) + float(micros) / 1e6


@dataclass(slots=True)
class Wishes:
    """How long a call of :meth:`RqWorker.work` goes on."""

    burst: bool
    max_jobs: int | None
    max_idle_time: int | None


class RqWorker(Worker):
    """RQ's worker, with a performer that is kept instead of a work horse for each job.

    Attributes:
        largest_batch: How many jobs are taken at once. 1 alone on a Redis of others (rulings 4); subclasses may allow
            more.
        isolation: ``none``, or ``process``: a process of its own for each job, as stock workers have it.
    """

    largest_batch = 1
    isolation = "none"

    def work(  # noqa: PLR0917 - RQ's
        self,
        burst: bool = False,
        logging_level: str | None = None,
        date_format: str = DEFAULT_LOGGING_DATE_FORMAT,
        log_format: str = DEFAULT_LOGGING_FORMAT,
        max_jobs: int | None = None,
        max_idle_time: int | None = None,
        with_scheduler: bool = False,
        dequeue_strategy: DequeueStrategy = DequeueStrategy.DEFAULT,
    ) -> bool:
        """As in RQ."""
        self.bootstrap(logging_level, date_format, log_format)
        self._dequeue_strategy = dequeue_strategy
        if with_scheduler:
            self._start_scheduler(burst, logging_level or "INFO", date_format, log_format)
        supervisor = Supervisor(self, Wishes(burst, max_jobs, max_idle_time))
        self._supervisor: Supervisor | None = supervisor
        try:
            supervisor.run()
        finally:
            self._supervisor = None
            self.teardown()  # type: ignore[no-untyped-call]
        return supervisor.jobs_done > 0

    def get_current_job_id(self) -> str | None:
        """The job that the performer runs."""
        supervisor: Supervisor | None = getattr(self, "_supervisor", None)
        running = supervisor.running() if supervisor else None
        return running[0] if running else None

    def kill_horse(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """Kill the performer; what it ran is stopped or lost, the rest goes on in another."""
        if supervisor := getattr(self, "_supervisor", None):
            supervisor.kill(sig)

    def request_stop_execution(self, execution_id: str) -> None:
        """Stop one execution, if it runs here."""
        supervisor: Supervisor | None = getattr(self, "_supervisor", None)
        running = supervisor.running() if supervisor else None
        if not running or running[1] != execution_id:
            self.log.warning("Not running execution %s, command ignored.", execution_id)
            return
        self._stopped_job_id = running[0]
        self.kill_horse()

    def books(self, name: str, connection: redis.Redis) -> JobBooks:
        """RQ's book-keeping as this worker was set up."""
        return JobBooks(
            name,
            connection,
            default_result_ttl=self.default_result_ttl,
            exception_handlers=list(self._exc_handlers),
            job_class=self.job_class,
            queue_class=self.queue_class,
            log_job_description=self.log_job_description,
            disable_default_exception_handler=self.disable_default_exception_handler,
            serializer=self.serializer,
        )


class RqProcessWorker(RqWorker):
    """The same with a process of its own for each job."""

    isolation = "process"


class Supervisor:
    """Keeps a performer at work for one worker.

    Args:
        worker: RQ's side of it.
        wishes: When to end.

    Attributes:
        jobs_done: How many jobs the performers have taken.
    """

    def __init__(self, worker: RqWorker, wishes: Wishes) -> None:
        self._worker = worker
        self._wishes = wishes
        self._redis = PlainRedis.over(worker.connection)
        self._memory = SharedMemory(1)
        self._selector = selectors.DefaultSelector()
        keys = [queue.key for queue in worker.queues]
        self._lookout = Lookout(worker.connection, keys, self._selector)
        self._child: Child | None = None
        self._stopping_since = 0.0
        self._cold = False
        self._idle_since = time.monotonic()
        self._next_beat = 0.0
        self._next_look = 0.0
        self._backoff = 0.0
        self._fork_at = 0.0
        self.jobs_done = 0

    @property
    def _queues(self) -> list[str]:
        return [queue.name for queue in self._worker.queues]

    def run(self) -> None:
        """Serve until the end is asked for or reached."""
        before = {number: signal.getsignal(number) for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)}
        wakeup = wake_on(before)
        self._selector.register(wakeup, selectors.EVENT_READ, None)
        try:
            self._fork()
            while self._child is not None or not self._over():
                self._turn(wakeup)
        finally:
            self._close()
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(wakeup)

    def running(self) -> tuple[str, str] | None:
        """Job and execution that the performer runs. Called from the thread that listens for commands, too."""
        execution = self._memory.read(0).execution
        if not execution:
            return None
        own = PlainRedis.over(self._worker.connection)
        try:
            held = own.jobs.held_by(self._worker.name)
        finally:
            own.client.close()
        return next(((job_id, one) for job_id, one, _ in held if one == execution), None)

    def kill(self, sig: signal.Signals) -> None:
        """Signal the performer."""
        if self._child is not None:
            self._child.signal(sig)

    # -- one turn -------------------------------------------------------------------------------------------

    def _turn(self, wakeup: int) -> None:
        for key, _ in self._selector.select(self._sleep()):
            if key.data is None:
                self._on_signals(os.read(wakeup, 4096))
            elif isinstance(key.data, QueuePeek):
                self._on_peek(key.data)
            else:
                self._read(key.data)
        self._reap()
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + (GLANCE if self._child and not self._child.idle else TICK)
            self._memory.set_lease_end(now + LEASE_SECONDS)
            self._watch_performer(now)
            self._beat(now)
        if self._child is None and not self._over() and now >= self._fork_at:
            self._fork()
        self._end_when_due(now)
        if self._child and self._child.idle and not self._stopping_since:
            self._lookout.look()

    def _sleep(self) -> float:
        moments = [self._next_look]
        if self._lookout.again_at > time.monotonic():
            moments.append(self._lookout.again_at)
        return max(0.0, min(moments) - time.monotonic())

    def _on_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number not in (signal.SIGTERM, signal.SIGINT):
                continue
            if not self._stopping_since:
                self._worker.handle_warm_shutdown_request()  # type: ignore[no-untyped-call]
                self._stop()
                if self._child and not self._child.idle:
                    self._worker._shutdown_requested_date = datetime.now(UTC)  # noqa: SLF001 - as RQ's request_stop
                    with _if_redis_answers():
                        self._worker.set_shutdown_requested_date()  # type: ignore[no-untyped-call]
            elif time.monotonic() - self._stopping_since > 1.0:
                # A pool and a terminal may both send one: RQ, too, takes two within a second for one.
                self._worker.log.warning("Worker %s: cold shut down", self._worker.name)
                self._cold = True

    def _stop(self) -> None:
        """Nothing new is taken; what runs may end."""
        self._stopping_since = self._stopping_since or time.monotonic()
        self._memory.set_draining()
        if self._child:
            self._child.told_to_stop = True
            self._child.send(QUIT)
        if self._worker.scheduler:
            self._worker.stop_scheduler()  # type: ignore[no-untyped-call]

    def _over(self) -> bool:
        """Nobody is forked again."""
        return bool(self._stopping_since)

    def _on_peek(self, peek: QueuePeek) -> None:
        found = self._lookout.answered(peek)
        if found and self._child and self._child.idle:
            self._lookout.woke(fruitless=self._child.fruitless > 1)
            self._wake()

    def _wake(self) -> None:
        if self._child:
            self._child.idle, self._child.woken = False, True
            self._next_look = min(self._next_look, time.monotonic() + GLANCE)
            self._child.send(WAKE)

    # -- the performer --------------------------------------------------------------------------------------

    def _fork(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._memory.reset(0)
        self._memory.set_lease_end(time.monotonic() + LEASE_SECONDS)
        left = None if self._wishes.max_jobs is None else self._wishes.max_jobs - self.jobs_done
        worker = self._worker
        context = WorkerContext(
            open_store=lambda: PlainRedis.over(worker.connection),
            open_books=worker.books,
            index=0,
            rq_name=worker.name,
            queues=self._queues,
            control=theirs,
            memory=self._memory,
            timeout_grace=TIMEOUT_GRACE,
            largest_batch=worker.largest_batch,
            isolated=worker.isolation == "process",
            max_jobs=left,
            reorder=_reordering(worker._dequeue_strategy),  # noqa: SLF001 - RQ keeps it there
        )
        pid = fork_process(lambda: Performer(context).run(), keep=[theirs.fileno()])
        theirs.close()
        ours.setblocking(False)
        self._child = Child(0, pid, new_nonce(), 0, worker.name, worker.name, ours)
        self._worker._horse_pid = pid  # noqa: SLF001 - RQ's commands look there
        self._selector.register(ours, selectors.EVENT_READ, self._child)
        self._child.registered = True
        self._child.send(REGISTERED)

    def _read(self, child: Child) -> None:
        """Take the performer's messages."""
        try:
            data = child.control.recv(4096)
        except OSError:
            return
        child.ready = child.ready or READY in data
        done = self._memory.jobs_done(0)
        if TOOK in data or done != child.jobs_done:
            child.ran_a_job, child.fruitless, child.woken, child.jobs_done = True, 0, False, done
            self._backoff = 0.0
        if not data:
            return
        child.idle = data.endswith(IDLE)
        if child.idle:
            if not child.ran_a_job:
                # It has not asked Redis for anything yet, which would have said so.
                with _if_redis_answers():
                    self._worker.set_state(WorkerStatus.IDLE)
            self._idle_since = time.monotonic()
            child.fruitless += child.woken
            child.woken = False
            with _if_redis_answers():
                self._on_idle()

    def _on_idle(self) -> None:
        """A burst ends with empty queues; what came meanwhile is looked at."""
        if self._wishes.burst and not self._stopping_since:
            if any(queue.count for queue in self._worker.queues) and not is_suspended(self._worker.connection):
                self._wake()
            else:
                self._worker.log.info("Worker %s: done, quitting", self._worker.name)
                self._stop()

    def _reap(self) -> None:
        child = self._child
        if child is None:
            return
        found, status = os.waitpid(child.pid, os.WNOHANG)
        if not found:
            return
        self._selector.unregister(child.control)
        child.control.close()
        self._child = None
        self._worker._horse_pid = 0  # noqa: SLF001 - as in _fork
        self.jobs_done += self._memory.jobs_done(0)
        self._kill_group(child.pid)
        cursor, ends = self._memory.read(0), self._memory.ends(0)
        if status == 0 and not cursor.execution and not ends:
            if self._wishes.max_jobs is not None and self.jobs_done >= self._wishes.max_jobs:
                self._stop()
            return
        self._bury(child, status)

    @staticmethod
    def _kill_group(pid: int) -> None:
        """What a job started in the performer's process group ends with it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)

    def _bury(self, child: Child, status: int) -> None:
        """It was killed, or crashed: its jobs are handed on, and another one follows."""
        worker, running = self._worker, self._memory.read(0).execution
        reason = (
            child.killed_for or f"the performer (pid {child.pid}) of worker {worker.name} {how_it_ended(End(status))}"
        )
        stopped = worker._stopped_job_id is not None  # noqa: SLF001 - set by RQ's handler of commands
        if not child.told_to_stop and not stopped:
            worker.log.warning("%s", reason)
        remains = Remains(
            running,
            reason,
            self._memory.ends(0),
            self._queues,
            cut=self._cold,
            stopped=stopped and bool(running),
            for_good=False,
        )
        while True:
            try:
                recover_worker(self._redis, worker.name, remains, worker.books)
            except (StoreError, redis.RedisError) as error:
                worker.log.warning("jobs of the lost performer wait for Redis: %s", error)
                self._selector.select(TICK)
            else:
                break
        worker._stopped_job_id = None  # noqa: SLF001 - as above
        # It need not have come to say so that it ran one.
        useful = child.ran_a_job or bool(running) or self._memory.jobs_done(0) > 0
        self._backoff = 0.0 if useful else min(max(FIRST_BACKOFF, self._backoff * 2), LONGEST_BACKOFF)
        self._fork_at = time.monotonic() + self._backoff

    def _watch_performer(self, now: float) -> None:
        """Kill one that hangs where no signal handler runs; take from one what waits behind a job that lasts."""
        child, cursor = self._child, self._memory.read(0)
        if child is None:
            return
        if cursor.deadline and now > cursor.deadline and not child.killed_for:
            child.killed_for = f"the performer (pid {child.pid}) hung beyond its job's timeout and was killed"
            child.signal(signal.SIGKILL)
        elif cursor.execution and now - cursor.begun_at > GLANCE and self._memory.taken_batch(0) != cursor.batch:
            try:
                take_over(self._redis, self._memory, [(child, cursor)], self._queues)
            except (StoreError, redis.RedisError) as error:
                self._worker.log.warning("cannot note which jobs last: %s", error)

    # -- RQ -------------------------------------------------------------------------------------------------

    def _beat(self, now: float) -> None:
        """Keep the worker in RQ's registries, also after Redis lost it, and do what RQ's workers do now and then."""
        if now < self._next_beat:
            return
        self._next_beat = now + BEAT_SECONDS
        worker = self._worker
        try:
            worker.heartbeat()
            cursor, held = self._memory.read(0), None
            if cursor.endless:
                claims = self._redis.jobs.held_by(worker.name)
                held = next((one for one in claims if one[1] == cursor.execution), None)
            if self._redis.jobs.beat_workers({worker.name: held}):
                self._redis.jobs.register_workers({worker.name: worker.serialize()}, self._queues)
            if worker.should_run_maintenance_tasks:
                worker.run_maintenance_tasks()  # type: ignore[no-untyped-call]
        except (StoreError, redis.RedisError) as error:
            worker.log.warning("Worker %s: no beat: %s", worker.name, error)
            self._next_beat = now + TICK

    def _end_when_due(self, now: float) -> None:
        child, limit = self._child, self._wishes.max_idle_time
        if limit is not None and child and child.idle and not self._stopping_since and now - self._idle_since > limit:
            self._worker.log.info("Worker %s: idle for %d seconds, quitting", self._worker.name, limit)
            self._stop()
        if self._cold and child and not child.killed_for:
            # What is cut goes back to its queue; what does not let itself be cut is killed.
            child.killed_for = f"the performer (pid {child.pid}) was taken down with its worker"
            child.signal(signal.SIGTERM)
            self._stopping_since = now
        elif self._cold and child and now - self._stopping_since > STOP_GRACE:
            child.signal(signal.SIGKILL)

    def _close(self) -> None:
        self._lookout.close()
        if self._child is not None:
            self._child.signal(signal.SIGKILL)
            os.waitpid(self._child.pid, 0)
        self._selector.close()
        self._redis.client.close()


@contextlib.contextmanager
def _if_redis_answers() -> Iterator[None]:
    """What may be left undone while Redis is away: it is said again, or done, at the next opportunity."""
    try:
        yield
    except redis.RedisError as error:
        log.warning("Redis does not answer: %s", error)


def _reordering(strategy: DequeueStrategy | str | None) -> Callable[[list[str], str], list[str]] | None:
    """How the order of queues changes after a job of one of them (``rq worker --dequeue-strategy``)."""
    if strategy in (None, DequeueStrategy.DEFAULT):
        return None
    if strategy == DequeueStrategy.ROUND_ROBIN:
        return lambda queues, last: queues[queues.index(last) + 1 :] + queues[: queues.index(last) + 1]
    if strategy == DequeueStrategy.RANDOM:
        return lambda queues, _last: random.sample(queues, len(queues))
    raise ValueError(f"Dequeue strategy {strategy} is not allowed. Use `default`, `random` or `round_robin`.")
