"""Comparing a look at Slurm's queue with what Redis says of the sets there; speaks to Redis only, may be repeated."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from gutscore_rs.durations import format_clock, slurm_surplus
from gutscore_rs.slurm import JobView, Verdict
from gutscore_rs.store.records import OPEN, ResourceSetRecord, State
from gutscore_rs.store.submissions import SubmissionRecord
from gutscore_rs_workers.local_backend import relaunch
from gutscore_rs_workers.site import Cluster, Site
from gutscore_rs_workers.slurm.poll import Poll
from gutscore_rs_workers.slurm.submit import adopt, submission_of

log = logging.getLogger(__name__)

# An intent without sbatch is given up after this time: its process had no more to do than a few steps in Redis, but
# the host may be very busy.
INTENT_TIME = 30.0
# A deadline that Redis and Slurm agree on but for this many seconds stays.
SAME_DEADLINE = 5.0
# Gone through no fault of the set, which is submitted again for what is left of its runtime.
LOST = frozenset({"PREEMPTED", "NODE_FAIL", "BOOT_FAIL"})
OVER = frozenset({"TIMEOUT", "DEADLINE"})
# In place of a set of a submission that nobody remembers.
NO_SET = (-1, -1)
RUNNING = frozenset({State.STARTING, State.ACTIVE, State.DRAINING})


def sets_on(site: Site, server: str) -> list[ResourceSetRecord]:
    """The sets of a cluster."""
    return [record for record in site.store.sets.readable()[0] if record.type == "slurm" and record.server == server]


def open_submissions(site: Site, server: str, records: Iterable[ResourceSetRecord]) -> list[SubmissionRecord]:
    """The submissions to one cluster that may still have jobs; those that Redis had lost are written down again.

    Args:
        site: The surroundings.
        server: The cluster.
        records: Its sets.
    """
    found = {one.token: one for one in site.store.submissions.open() if one.server == server}
    for record in records:
        token = submission_of(record)
        if record.state in OPEN - {State.REQUESTED} and record.slurm_job and not _holds(found.get(token), record):
            found[token] = _rebuilt(site, record, found.get(token))
    return list(found.values())


def _holds(submission: SubmissionRecord | None, record: ResourceSetRecord) -> bool:
    return submission is not None and (record.wgroup_id, record.generation) in submission.sets


def _sets_of(submission: SubmissionRecord, records: Iterable[ResourceSetRecord]) -> dict[int, ResourceSetRecord]:
    """The sets that a submission is still for, by index; one that was requested or submitted anew is not among them."""
    known = {(record.wgroup_id, record.generation): record for record in records}
    found = {index: known[one] for index, one in enumerate(submission.sets) if one in known}
    return {index: record for index, record in found.items() if submission_of(record) == submission.token}


def _rebuilt(site: Site, record: ResourceSetRecord, known: SubmissionRecord | None) -> SubmissionRecord:
    """A launcher brought its set back after Redis had lost everything: its submission is known from its sets."""
    job_id, _, task = record.slurm_job.partition("_")
    known = known or SubmissionRecord(
        submission_of(record),
        record.server,
        job_id,
        created_at=record.submitted_at,
        submitted_at=record.submitted_at,
        limit=record.runtime,
    )
    sets = list(known.sets)
    # One more than is known: of an array, the tasks of which have names of their own.
    size = max(len(sets), record.slurm_task + (2 if task else 1))
    sets += [NO_SET] * (size - len(sets))
    sets[record.slurm_task] = (record.wgroup_id, record.generation)
    known = replace(known, sets=tuple(sets))
    site.store.submissions.write(known)
    return known


def judge(
    site: Site,
    cluster: Cluster,
    poll: Poll,
    submissions: Iterable[SubmissionRecord],
    records: Sequence[ResourceSetRecord],
) -> None:
    """What follows from one look at the queue.

    Args:
        site: The surroundings.
        cluster: Whose queue it is.
        poll: The look.
        submissions: The cluster's open ones.
        records: The cluster's sets.
    """
    for submission in submissions:
        sets, views = _sets_of(submission, records), poll.named(submission.token)
        if submission.job_id:
            _judge_job(site, poll, submission, sets)
        elif views:
            log.warning("Slurm job %s is adopted: its submission had no answer", views[0].array_id)
            adopt(site, submission, list(sets.values()), views[0].array_id)
        else:
            _look_on(site, cluster, submission, records)


def _judge_job(site: Site, poll: Poll, submission: SubmissionRecord, sets: Mapping[int, ResourceSetRecord]) -> None:
    for index, record in sets.items():
        # What a look shows may be older than what the set is now.
        if record.state in OPEN - {State.REQUESTED, State.RELEASING} and poll.at > record.changed_at:
            _judge_set(site, poll, submission, record, poll.of(submission, index))
    ended = all(record.state.ended for record in sets.values())
    if ended and poll.at > submission.submitted_at and all(view.is_gone for view in poll.named(submission.token)):
        site.store.submissions.settle(submission.token)


def _look_on(site: Site, cluster: Cluster, submission: SubmissionRecord, records: Iterable[ResourceSetRecord]) -> None:
    """No job is known of this submission: it is given up in time, and what waits goes back into the queue."""
    now = site.store.time()
    if submission.submitted_at:
        why, over = "no Slurm job was found for its submission", now > submission.submitted_at + cluster.lookup_time
    else:
        why, over = "its submission was interrupted before sbatch", now > submission.created_at + INTENT_TIME
    if not over:
        return
    # By token: a submission that was interrupted early does not know its sets yet.
    for record in records:
        if record.state is State.SUBMITTING and submission_of(record) == submission.token:
            # A job that appears after this finds another token in the set, and ends at once.
            log.warning("resource set %d is submitted again: %s", record.wgroup_id, why)
            site.store.sets.transition(
                record,
                State.REQUESTED,
                why,
                token="",
                pending_reason="",
                next_try_at=f"{now:.6f}",
                expires_at=f"{max(record.expires_at, now + 60):.6f}",
            )
    site.store.submissions.settle(submission.token)


def _judge_set(
    site: Site, poll: Poll, submission: SubmissionRecord, record: ResourceSetRecord, view: JobView | None
) -> None:
    if view is None:
        _missing(site, poll, record)
        return
    if record.missing_since:
        site.store.sets.note(record.wgroup_id, missing_since=0)
    match view.verdict:
        case Verdict.WAITING:
            _waits(site, record, view)
        case Verdict.UP:
            _runs(site, submission, record, view)
        case Verdict.GONE:
            _gone(site, record, view)
        case _:
            pass


def _waits(site: Site, record: ResourceSetRecord, view: JobView) -> None:
    if view.hopeless:
        error = (
            f"Slurm job {record.slurm_job} can never start ({view.reason}); it is cancelled. Change the description, "
            "or the site's limits, and request the set again"
        )
        site.store.sets.transition(record, State.FAILED, error, error=error)
    elif record.state in RUNNING:
        why = f"Slurm job {record.slurm_job} was requeued ({view.reason})"
        site.store.sets.transition(record, State.PENDING, why, pending_reason=view.reason, deadline="")
    else:
        start = f", estimated start {format_clock(view.start)}" if view.start else ""
        _note(site, record, f"{view.reason or view.state}{start}")


def _note(site: Site, record: ResourceSetRecord, reason: str) -> None:
    if reason != record.pending_reason:
        site.store.sets.note(record.wgroup_id, pending_reason=reason)


def _runs(site: Site, submission: SubmissionRecord, record: ResourceSetRecord, view: JobView) -> None:
    if record.state is State.PENDING:
        _note(site, record, f"job {record.slurm_job} runs on {view.nodes}, its launchers start")
    if not view.end or record.state not in RUNNING:
        return
    # The limit as it is now: an administrator, or its user, may have moved it.
    deadline = view.end - slurm_surplus(submission.limit)
    if abs(deadline - record.deadline) > SAME_DEADLINE:
        site.store.sets.note(record.wgroup_id, deadline=f"{deadline:.6f}")


def _missing(site: Site, poll: Poll, record: ResourceSetRecord) -> None:
    """Neither queue nor accounting shows it: finished long ago, or hidden. A living launcher knows better than that.

    Gone is what two looks in a row do not show (a controller that was just started may not know all its jobs yet).
    """
    if not record.missing_since:
        site.store.sets.note(record.wgroup_id, missing_since=f"{poll.at:.6f}")
    elif poll.at > record.missing_since and not site.store.workers.count(record.wgroup_id):
        _end(site, record, "it is not in Slurm's queue any more", State.EXPIRED if record.started_at else State.FAILED)


def _gone(site: Site, record: ResourceSetRecord, view: JobView) -> None:
    state = view.state.split()[0]
    detail = view.state + (f", {view.reason}" if view.reason not in ("", "None") else "")
    why = f"its Slurm job {record.slurm_job} ended: {detail}"
    if state in LOST:
        # Leases alone tell who lives: a node that was only cut off has workers that count until they end (rulings 19).
        site.store.sets.detach_all(record, why)
        relaunch(site, record, why)
    elif state in OVER or (state == "COMPLETED" and record.started_at):
        _end(site, record, why, State.EXPIRED)
    else:
        code = f", exit code {view.exit_code}" if view.exit_code not in ("", "0:0") else ""
        hint = "" if state == "CANCELLED" else f"; see {site.folder.logs / 'slurm'}"
        _end(site, record, f"{why}{code}{hint}", State.FAILED)


def _end(site: Site, record: ResourceSetRecord, why: str, state: State) -> None:
    site.store.sets.detach_all(record, why)
    site.store.sets.transition(record, state, why, error=why if state is State.FAILED else record.error)


def unwanted_jobs(site: Site, cluster: Cluster, poll: Poll) -> list[str]:
    """Jobs of this case that wait although no set waits for them: submitted twice, or their set ended meanwhile."""
    records = sets_on(site, cluster.server)
    unwanted: list[str] = []
    for token in sorted({view.name for view in poll.views if view.verdict is Verdict.WAITING}):
        submission = site.store.submissions.get(token)
        # One whose sets are not written down yet is under way; one that we do not know is of another case.
        if submission is not None and submission.server == cluster.server and submission.submitted_at:
            sets = _sets_of(submission, records)
            wanted = {index for index, record in sets.items() if record.state in OPEN}
            unwanted += _unwanted_of(poll, submission, wanted)
    return unwanted


def _unwanted_of(poll: Poll, submission: SubmissionRecord, wanted: set[int]) -> list[str]:
    views = [view for view in poll.named(submission.token) if view.verdict is Verdict.WAITING]
    if not wanted:
        return sorted({view.array_id for view in views})
    if len(submission.sets) == 1:
        return []
    indices = [index for index in range(len(submission.sets)) if index not in wanted]
    return [f"{view.array_id}_{index}" for view in views for index in indices if view.is_task(index)]
