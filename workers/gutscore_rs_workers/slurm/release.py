"""Releasing sets on Slurm: told, cancelled, and seen to be gone, from the scheduler and by their leases."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum

from gutscore_rs.errors import SlurmError
from gutscore_rs.identity import this_process
from gutscore_rs.operations.client import finish_release
from gutscore_rs.slurm import Verdict
from gutscore_rs.store.provisioners import lock_owner
from gutscore_rs.store.records import ResourceSetRecord, State
from gutscore_rs.store.submissions import SubmissionRecord
from gutscore_rs_workers.site import Cluster, Site
from gutscore_rs_workers.slurm.judge import INTENT_TIME
from gutscore_rs_workers.slurm.poll import Poll, ask
from gutscore_rs_workers.slurm.submit import submission_of

log = logging.getLogger(__name__)

LOCK_SECONDS = 30.0
# One operation's work; then reconcile rings again for what is left.
LONGEST_RUN = 240.0
# A cancelled job is looked for, at first often; Slurm takes its time (KillWait).
FIRST_LOOK, LONGEST_LOOK, LAST_LOOK = 0.1, 3.0, 50.0
# Beyond its drain a launcher needs this long to stop and to sign off; then its job is cancelled.
STOP_SECONDS = 8.0


class _Step(Enum):
    WAIT = 0
    TELL = 1
    CANCEL = 2


@dataclass(slots=True)
class _Release:
    """One set on its way out.

    Attributes:
        submission: What its job came of; None: nothing was submitted, or Redis lost it.
        job: Slurm's name of its job; empty: none is known.
        since: Monotonic second of its beginning.
        told: Monotonic second at which its launchers were told to end; 0.0: not yet.
        gone: Whether Slurm says that its job is no more.
    """

    record: ResourceSetRecord
    submission: SubmissionRecord | None
    job: str
    since: float = field(default_factory=time.monotonic)
    told: float = 0.0
    gone: bool = False


def release(site: Site, record: ResourceSetRecord, renew_lock: Callable[[], object]) -> str:
    """Carry out a release, and with it all others that wait on the same cluster: few calls for many sets.

    Waiting jobs are cancelled at once. Where launchers run they are told by the job's batch shell, drain, and sign
    off; what is still there then is cancelled. Done is what Slurm calls ended *and* has no valid lease.
    """
    if record.state is not State.RELEASING:
        return f"nothing to release: the set is {record.state}"
    batch = _Batch(site, record.server, lock_owner(this_process(site.host)))
    if not batch.take_turn():
        return "goes with the releases that are under way on its cluster"
    try:
        batch.add(record)
        return batch.run(renew_lock)
    finally:
        batch.end()


class _Batch:
    """The releases of one cluster, by one process at a time; it takes in what comes while it is at work."""

    def __init__(self, site: Site, server: str, owner: str) -> None:
        self._site = site
        self._cluster = site.clusters[server]
        self._duty = f"release-{server}"
        self._owner = owner
        self._left: list[_Release] = []
        self._locked: set[int] = set()
        self._done = 0

    def take_turn(self) -> bool:
        """Take, or keep, the releases of this cluster."""
        return self._site.store.provisioners.take_duty(self._duty, self._owner, LOCK_SECONDS)

    def add(self, record: ResourceSetRecord) -> None:
        """See a set out; its lock is ours."""
        submission = self._site.store.submissions.get(submission_of(record))
        job = record.slurm_job or (submission.job_of(record.slurm_task) if submission else "")
        self._left.append(_Release(record, submission, job))

    def run(self, renew_lock: Callable[[], object]) -> str:
        """Until all are gone, or some did not go in time."""
        ends, pause, failure = time.monotonic() + LONGEST_RUN, FIRST_LOOK, ""
        while time.monotonic() < ends:
            if self._take_in():
                pause = FIRST_LOOK
            failure = _step(self._site, self._cluster, self._left)
            self._part(failure)
            if not self._left and not self._take_in():
                break
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_LOOK)
            renew_lock()
            self._renew()
        for one in self._left:
            self._give_up(one, failure)
        return f"{self._done} resource sets released" + (f", {len(self._left)} not yet" if self._left else "")

    def _take_in(self) -> bool:
        """Sets whose release was asked for since."""
        at_work = {one.record.wgroup_id for one in self._left}
        fresh = [
            record
            for record in self._site.store.sets.readable()[0]
            if record.wgroup_id not in at_work
            and record.state is State.RELEASING
            and record.server == self._cluster.server
            and self._site.store.provisioners.lock(record.wgroup_id, self._owner, LOCK_SECONDS)
        ]
        for record in fresh:
            self._locked.add(record.wgroup_id)
            self.add(record)
        return bool(fresh)

    def _part(self, failure: str) -> None:
        """From those that are gone, and from those that do not go: reconcile comes back to them."""
        for one in list(self._left):
            if _is_done(self._site, one):
                self._done += 1
            elif time.monotonic() > one.since + LAST_LOOK:
                self._give_up(one, failure)
            else:
                continue
            self._left.remove(one)
            self._unlock(one.record.wgroup_id)

    def _give_up(self, one: _Release, failure: str) -> None:
        self._site.store.sets.note(one.record.wgroup_id, error=_why_left(one, failure))

    def _renew(self) -> None:
        self.take_turn()
        for wgroup_id in self._locked:
            self._site.store.provisioners.lock(wgroup_id, self._owner, LOCK_SECONDS)

    def _unlock(self, wgroup_id: int) -> None:
        if wgroup_id in self._locked:
            self._locked.remove(wgroup_id)
            self._site.store.provisioners.unlock(wgroup_id, self._owner)

    def end(self) -> None:
        """Give back what was taken."""
        for wgroup_id in list(self._locked):
            self._unlock(wgroup_id)
        self._site.store.provisioners.drop_duty(self._duty, self._owner)


def _step(site: Site, cluster: Cluster, left: list[_Release]) -> str:
    """One look, and what it calls for; why it could not be done."""
    asked: list[_Release] = []
    for one in left:
        one.gone = not _may_have_a_job(site, one)
        asked += [] if one.gone else [one]
    # Without any job that might be, Slurm need not be asked.
    if not asked:
        return ""
    poll = ask(site, cluster)
    if poll.error:
        return poll.error
    steps = {one.record.wgroup_id: _next_step(site, cluster, poll, one) for one in asked}
    tell = [one.job for one in asked if steps[one.record.wgroup_id] is _Step.TELL]
    cancel = [one.job for one in asked if steps[one.record.wgroup_id] is _Step.CANCEL]
    try:
        if tell or cancel:
            log.info("of %d releases %d jobs are told to end, %d cancelled", len(left), len(tell), len(cancel))
        # First what waits: it must not start where others end.
        if cancel:
            cluster.client.cancel(cancel)
        if tell:
            cluster.client.signal(tell, "USR1")
    except SlurmError as error:
        return str(error)
    return ""


def _may_have_a_job(site: Site, one: _Release) -> bool:
    """Whether there is a job, or may come to be one: its submission may be just under way in another process."""
    if one.submission is not None and not one.job:
        one.submission = site.store.submissions.get(one.submission.token) or one.submission
        one.job = one.submission.job_of(one.record.slurm_task)
    if one.job or one.submission is None or one.submission.settled:
        return bool(one.job)
    under_way = site.store.time() < one.submission.created_at + INTENT_TIME
    return bool(one.submission.submitted_at) or under_way


def _next_step(site: Site, cluster: Cluster, poll: Poll, one: _Release) -> _Step:
    index = one.record.slurm_task
    view = poll.of(one.submission, index) if one.submission else poll.named_job(one.job)
    if view is None:
        # A submission without an answer may still come to be; a job that was known is forgotten by Slurm.
        one.gone = bool(one.job) or _is_given_up(site, cluster, one.submission)
        return _Step.WAIT
    if one.submission:
        # Of tasks that wait as one, ours alone.
        one.job = replace(one.submission, job_id=view.array_id).job_of(index)
    if view.verdict is Verdict.GONE:
        one.gone = True
    elif view.verdict is Verdict.WAITING:
        return _Step.CANCEL
    elif not one.told:
        one.told = time.monotonic()
        return _Step.TELL
    elif _is_overdue(one) or not _had_launchers(one.record):
        return _Step.CANCEL
    return _Step.WAIT


def _is_given_up(site: Site, cluster: Cluster, submission: SubmissionRecord | None) -> bool:
    """Whether a submission without an answer was looked for long enough."""
    if submission is None:
        return True
    return bool(submission.submitted_at) and site.store.time() > submission.submitted_at + cluster.lookup_time


def _is_overdue(one: _Release) -> bool:
    """Whether its launchers, and the commands after them, had their time."""
    drain = float(one.record.spec.get("drain_timeout", 5.0))
    return time.monotonic() - one.told > drain + STOP_SECONDS


def _had_launchers(record: ResourceSetRecord) -> bool:
    """Whether a launcher ever attached (it names the launch): else only commands before it can be running."""
    return "." in record.token


def _is_done(site: Site, one: _Release) -> bool:
    """Whether it is booked as released: its job is gone and so are its leases."""
    if not one.gone:
        return False
    wgroup_id = one.record.wgroup_id
    if site.store.workers.count(wgroup_id):
        return False
    site.store.sets.detach_all(one.record, "its Slurm job is gone")
    return finish_release(site.store, one.record)


def _why_left(one: _Release, failure: str) -> str:
    if one.gone:
        return f"Slurm job {one.job} is gone, but leases of its workers are still renewed: see `squeue` and its nodes"
    what = f"Slurm job {one.job}" if one.job else f"a Slurm job named {submission_of(one.record)}"
    return f"{what} may still be there: {failure or 'it was cancelled and has not ended'}"
