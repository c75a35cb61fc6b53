"""Handing on the jobs of workers that are gone. Repeatable: only what is still booked for the worker is touched."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gutscore_rs.errors import StoreUnavailableError
from gutscore_rs.store import End
from gutscore_rs.store.connection import translated
from gutscore_rs_workers.children import Child
from gutscore_rs_workers.rq_bridge import JobBooks
from gutscore_rs_workers.shared_memory import Cursor, SharedMemory
from gutscore_rs_workers.worker import JobStore

log = logging.getLogger(__name__)

# A job that came back from this many lost hosts is taken for their cause (rulings 3).
MOST_DELIVERIES = 3
# Longer than a processor keeps a write to itself, by far.
SETTLE_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Remains:
    """What is known of a worker that died.

    Attributes:
        running: Execution that its cursor showed; empty: none was begun.
        reason: What happened, for the job's record.
        ends: What lay in its outbox.
        queues: Full names of its queues.
        cut: The job was ended by us (release, deadline): it goes back too, without using a retry.
        stopped: Its user stopped the running job.
        for_good: Nobody will claim by its name again.
    """

    running: str
    reason: str
    ends: Sequence[End] = ()
    queues: Sequence[str] = ()
    cut: bool = False
    stopped: bool = False
    for_good: bool = True


def recover_worker(
    store: JobStore, rq_name: str, remains: Remains, open_books: Callable[..., JobBooks] = JobBooks
) -> list[str]:
    """A worker's death was seen: its running job follows its Retry or fails, the others go back in their order.

    Args:
        store: A store of this process.
        rq_name: The worker's RQ name.
        remains: What it left.
        open_books: Makes RQ's book-keeping for a worker.

    Returns:
        Ids of the jobs that were handled.
    """
    handled = []
    store.jobs.fence_claims(rq_name, for_good=remains.for_good)
    book_ends(store, rq_name, remains.ends, remains.queues, open_books)
    for job_id, execution, queue in reversed(_in_order(store.jobs.held_by(rq_name))):
        if not queue:
            store.jobs.drop_claim(rq_name, job_id, execution)
        elif execution == remains.running and not remains.cut:
            books = open_books(rq_name, store.client)
            _fail_or_retry(store, books, (job_id, execution, queue), remains.reason, stopped=remains.stopped)
        else:
            store.jobs.put_back(job_id, execution, queue, rq_name)
        handled.append(job_id)
    _see_that_nothing_is_held(store, rq_name)
    return handled


def book_ends(
    store: JobStore,
    rq_name: str,
    ends: Sequence[End],
    queues: Sequence[str],
    open_books: Callable[..., JobBooks] = JobBooks,
) -> None:
    """Book what a worker had done, once: what it told itself meanwhile is left as it is."""
    if not ends:
        return
    worked = sum(end.ended_at - end.started_at for end in ends)
    outcomes = store.jobs.exchange(queues, rq_name, ends, most=0, worked=worked, recorded=True).outcomes
    books = open_books(rq_name, store.client)
    for outcome, end in zip(outcomes, ends, strict=True):
        if outcome == "complex":
            with translated(store.where):
                books.ended_well(end)


def take_over(
    store: JobStore, memory: SharedMemory, hoarders: Sequence[tuple[Child, Cursor]], queues: Sequence[str]
) -> None:
    """Jobs last: have RQ's readers see them, book what their workers did before them, put back what is behind them."""
    for child, cursor in hoarders:
        memory.take_batch(child.index, cursor.batch)
    # See SharedMemory.take_batch: a worker that begins its next job at this moment has its cursor written after it.
    time.sleep(SETTLE_SECONDS)
    for child, cursor in hoarders:
        now_running, ends = memory.read(child.index), memory.ends(child.index)
        if now_running.batch != cursor.batch:
            continue
        book_ends(store, child.rq_name, ends, queues)
        spare = {now_running.execution} | {end.execution for end in ends}
        held = _in_order(store.jobs.held_by(child.rq_name))
        behind = [one for one in held if one[1] not in spare and one[1][:-4] == cursor.execution[:-4]]
        for job_id, execution, queue in reversed(behind):
            store.jobs.put_back(job_id, execution, queue, child.rq_name)
        if running := [one for one in held if one[1] == now_running.execution and one[2]]:
            job_id, execution, queue = running[0]
            store.jobs.record_execution(job_id, execution, child.rq_name, queue)
        if behind:
            log.info("%d jobs were taken back from worker %d, whose job lasts", len(behind), child.index)


def _in_order(held: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Jobs as they were taken: the executions of a call end with their numbers."""
    return sorted(held, key=lambda one: one[1][-4:])


def recover_lost(store: JobStore, rq_name: str, *, reason: str, dead: bool = False) -> list[str]:
    """A worker vanished with its host: nobody knows what it had begun, so its jobs go back a few times (rulings 3).

    Args:
        store: A store of this process.
        rq_name: The worker's RQ name.
        reason: What happened.
        dead: It is certain that it will not come back.

    Returns:
        Ids of the jobs that were handled.
    """
    handled = []
    if dead:
        store.jobs.fence_claims(rq_name, for_good=True)
    for job_id, execution, queue in reversed(_in_order(store.jobs.held_by(rq_name))):
        handled.append(job_id)
        if not queue:
            store.jobs.drop_claim(rq_name, job_id, execution)
        elif store.jobs.put_back(job_id, execution, queue, rq_name, most_deliveries=MOST_DELIVERIES) == "exhausted":
            why = f"{reason}; it came back from {MOST_DELIVERIES} lost workers and is not tried again"
            _fail_or_retry(store, JobBooks(rq_name, store.client, sealed=True), (job_id, execution, queue), why)
    _see_that_nothing_is_held(store, rq_name)
    return handled


def _see_that_nothing_is_held(store: JobStore, rq_name: str) -> None:
    """RQ's code keeps some of its failures to itself; then the caller tries again."""
    if held := store.jobs.held_by(rq_name):
        raise StoreUnavailableError(f"{len(held)} jobs of the lost worker {rq_name} could not be handed on")


def _fail_or_retry(
    store: JobStore, books: JobBooks, claimed: tuple[str, str, str], reason: str, *, stopped: bool = False
) -> None:
    job_id, execution, queue = claimed
    with translated(store.where):
        exists = books.lost(job_id, execution, queue, reason, stopped=stopped)
    if not exists:
        store.jobs.drop_claim(books.name, job_id, execution)
    store.jobs.notify(job_id)
    log.warning("job %s: %s", job_id, reason)
