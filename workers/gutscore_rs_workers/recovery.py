"""Handing on the jobs of workers that are gone. Repeatable: only what is still booked for the worker is touched."""

from __future__ import annotations

import logging

from gutscore_rs.errors import StoreUnavailableError
from gutscore_rs.store import Store
from gutscore_rs.store.connection import translated
from gutscore_rs_workers.rq_bridge import JobBooks

log = logging.getLogger(__name__)

# A job that came back from this many lost hosts is taken for their cause (rulings 3).
MOST_DELIVERIES = 3


def recover_worker(store: Store, rq_name: str, *, running: str, reason: str, cut: bool = False) -> list[str]:
    """A worker's death was seen: its running job follows its Retry or fails, the others go back.

    Args:
        store: A store of this process.
        rq_name: The worker's RQ name.
        running: Execution that its cursor showed; empty: none was begun.
        reason: What happened, for the job's record.
        cut: The job was ended by us (release, deadline): it goes back too, without using a retry.

    Returns:
        Ids of the jobs that were handled.
    """
    handled = []
    store.jobs.fence_claims(rq_name, for_good=True)
    for job_id, execution, queue in store.jobs.held_by(rq_name):
        if not queue:
            store.jobs.drop_claim(rq_name, job_id, execution)
        elif execution == running and not cut:
            _fail_or_retry(store, rq_name, (job_id, execution, queue), reason, sealed=False)
        else:
            store.jobs.put_back(job_id, execution, queue, rq_name)
        handled.append(job_id)
    _see_that_nothing_is_held(store, rq_name)
    return handled


def recover_lost(store: Store, rq_name: str, *, reason: str, dead: bool = False) -> list[str]:
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
    for job_id, execution, queue in store.jobs.held_by(rq_name):
        handled.append(job_id)
        if not queue:
            store.jobs.drop_claim(rq_name, job_id, execution)
        elif store.jobs.put_back(job_id, execution, queue, rq_name, most_deliveries=MOST_DELIVERIES) == "exhausted":
            why = f"{reason}; it came back from {MOST_DELIVERIES} lost workers and is not tried again"
            _fail_or_retry(store, rq_name, (job_id, execution, queue), why, sealed=True)
    _see_that_nothing_is_held(store, rq_name)
    return handled


def _see_that_nothing_is_held(store: Store, rq_name: str) -> None:
    """RQ's code keeps some of its failures to itself; then the caller tries again."""
    if held := store.jobs.held_by(rq_name):
        raise StoreUnavailableError(f"{len(held)} jobs of the lost worker {rq_name} could not be handed on")


def _fail_or_retry(store: Store, rq_name: str, claimed: tuple[str, str, str], reason: str, *, sealed: bool) -> None:
    job_id, execution, queue = claimed
    with translated(store.where):
        exists = JobBooks(rq_name, store.client, sealed=sealed).lost(job_id, execution, queue, reason)
    if not exists:
        store.jobs.drop_claim(rq_name, job_id, execution)
    log.warning("job %s: %s", job_id, reason)
