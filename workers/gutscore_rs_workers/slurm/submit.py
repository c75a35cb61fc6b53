"""Submitting sets to Slurm; each step safe to die at and to repeat (rulings 16 to 18).

A submission is written to Redis before its sets are taken, and once more before sbatch; its token is the job's name.
What sbatch's answer leaves open, ``judge`` settles by looking for that name. A submission that was not found is
repeated after a long while only, under a new name; and of two jobs that exist all the same one gets past ``attach``.
"""

from __future__ import annotations

import logging
import math
import random
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from gutscore_rs.entrypoints import submission_command
from gutscore_rs.errors import ConfigError, OperationRefusedError
from gutscore_rs.paths import private_folder
from gutscore_rs.settings import MARK, STATE_DIR, environment_value
from gutscore_rs.signature import check_description
from gutscore_rs.slurm import (
    Busy,
    Refused,
    Submission,
    Submitted,
    Unknown,
    build_job_script,
    check_request,
    command_line_options,
)
from gutscore_rs.slurm.tokens import new_token
from gutscore_rs.store.records import ResourceSetRecord, State
from gutscore_rs.store.submissions import SubmissionRecord
from gutscore_rs_workers.local_backend import case_mark
from gutscore_rs_workers.site import Cluster, Site
from gutscore_rs_workers.slurm.job import submission_mark

log = logging.getLogger(__name__)

# Sets that are requested within a moment of each other go together.
QUIET, LONGEST_WAIT = 0.03, 1.0
# The longest that collecting them may take.
TURN_SECONDS = 5.0
# After a limit of the site (QOS, association, queue full) it is tried again so much later.
TRY_AGAIN, REQUEST_TIME = 60.0, 600.0
# Slurm's shortest time limit.
SHORTEST = 60


def start(site: Site, record: ResourceSetRecord) -> str:
    """Carry out a request, and with it those for equal sets that wait too: one sbatch for all.

    Returns:
        What happened, for the operation's record.
    """
    if record.state is not State.REQUESTED:
        return f"nothing to submit: the set is {record.state}"
    cluster = site.clusters[record.server]
    wrong = check_request(record.spec, cluster.limits)
    if wrong:
        return _fail_all(site, [record], " ".join(wrong))
    with _turn(site, record.server):
        submission, taken = _gather(site, cluster, record)
    if not taken:
        return "nothing to submit: the set went with others, or changed"
    return _submit(site, cluster, submission, taken)


@contextmanager
def _turn(site: Site, server: str) -> Iterator[None]:
    """One at a time collects what waits for a cluster: operations that run side by side would share it out.

    Whoever does not get it in time goes on without: that costs an sbatch more, nothing else.
    """
    duty, owner, ends = f"gather-{server}", secrets.token_hex(8), time.monotonic() + TURN_SECONDS
    while not site.store.provisioners.take_duty(duty, owner, TURN_SECONDS) and time.monotonic() < ends:
        time.sleep(QUIET / 5)
    try:
        yield
    finally:
        site.store.provisioners.drop_duty(duty, owner)


def _gather(
    site: Site, cluster: Cluster, record: ResourceSetRecord
) -> tuple[SubmissionRecord, list[ResourceSetRecord]]:
    """A submission, written down before sbatch, and the sets that it took."""
    now = site.store.time()
    submission = SubmissionRecord(
        new_token(site.store.case, site.access.key_id), record.server, created_at=now, limit=_limit(record, now)
    )
    current = site.store.sets.get(record.wgroup_id)
    if current is None or (current.generation, current.version) != (record.generation, record.version):
        return submission, []
    batch = [one for one in _wait_for_equals(site, cluster, record) if _is_admitted(site, one)]
    # Written first: whoever finds a set with this token finds that nothing was submitted yet.
    site.store.submissions.write(submission)
    taken = _take(site, batch, submission.token)
    if not taken:
        site.store.submissions.settle(submission.token)
    return replace(submission, sets=tuple((one.wgroup_id, one.generation) for one in taken)), taken


def _limit(record: ResourceSetRecord, now: float) -> int:
    """The time limit to ask for; a set that lost its job gets what is left of its runtime."""
    return max(SHORTEST, math.ceil(record.deadline - now)) if record.deadline else record.runtime


def _wait_for_equals(site: Site, cluster: Cluster, record: ResourceSetRecord) -> list[ResourceSetRecord]:
    """Sets that wait for the same cluster with the same description, this one first, once no more come."""
    if record.deadline:
        return [record]
    began = quiet_since = time.monotonic()
    found: list[ResourceSetRecord] = []
    while time.monotonic() - began < LONGEST_WAIT and time.monotonic() - quiet_since < QUIET:
        now, before = site.store.time(), len(found)
        found = [record] + [
            other
            for other in site.store.sets.readable()[0]
            if other.wgroup_id != record.wgroup_id
            and other.state is State.REQUESTED
            and other.server == record.server
            and other.spec == record.spec
            and other.next_try_at <= now
            and not other.deadline
        ]
        if len(found) != before:
            quiet_since = time.monotonic()
        time.sleep(QUIET / 5)
    return found[: cluster.limits.max_array_size]


def refusal(site: Site, record: ResourceSetRecord) -> str:
    """Why a request is not carried out, whatever it asks for; empty: it is."""
    if site.store.time() > record.expires_at:
        return "request expired: no provisioner answered in time; request it again"
    try:
        check_description(site.access, record)
    except OperationRefusedError as error:
        return str(error)
    return ""


def _is_admitted(site: Site, record: ResourceSetRecord) -> bool:
    error = refusal(site, record)
    if error:
        site.store.sets.transition(record, State.FAILED, error, error=error)
    return not error


def _take(site: Site, batch: Sequence[ResourceSetRecord], token: str) -> list[ResourceSetRecord]:
    """The sets that are ours now, each with its index in the submission."""
    taken: list[ResourceSetRecord] = []
    for record in batch:
        changed = site.store.sets.transition(
            record,
            State.SUBMITTING,
            f"submission {token}, index {len(taken)}",
            token=token,
            slurm_task=len(taken),
            slurm_job="",
            launches=record.launches + 1,
            pending_reason="",
        )
        taken += [changed] if changed else []
    return taken


def _submit(site: Site, cluster: Cluster, submission: SubmissionRecord, sets: Sequence[ResourceSetRecord]) -> str:
    spec, token = sets[0].spec, submission.token
    try:
        logs = str(private_folder(site.folder.logs / "slurm"))
        command = submission_command(site.folder.access_file, token=token, logs=site.folder.logs)
        options = command_line_options(spec, token=token, log_dir=logs, array_size=len(sets), limit=submission.limit)
        script = build_job_script(
            spec,
            name=_title(site, sets),
            token=token,
            command=command,
            log_dir=logs,
            array_size=len(sets),
            limit=submission.limit,
            exports=_exports(site, token),
        )
    except (ConfigError, OSError) as error:
        site.store.submissions.settle(token)
        return _fail_all(site, sets, str(error))
    # From here on a job may exist, whatever becomes of this process.
    submission = replace(submission, submitted_at=site.store.time())
    site.store.submissions.write(submission)
    return _book(site, submission, sets, cluster.client.submit(script, options))


def _exports(site: Site, token: str) -> dict[str, str]:
    """What launchers need to know of this host's settings."""
    out = {STATE_DIR: str(site.folder.root.parent.parent), MARK: submission_mark(case_mark(site.folder), token)}
    path = environment_value("PYTHONPATH")
    return out | ({"PYTHONPATH": path} if path else {})


def _title(site: Site, sets: Sequence[ResourceSetRecord]) -> str:
    numbers = ", ".join(str(one.wgroup_id) for one in sets[:8]) + (" ..." if len(sets) > 8 else "")  # noqa: PLR2004
    return f"case {site.store.case}, resource set {numbers}"


def _book(site: Site, submission: SubmissionRecord, sets: Sequence[ResourceSetRecord], outcome: Submission) -> str:
    match outcome:
        case Submitted(job_id=job_id):
            adopt(site, submission, sets, job_id)
            return f"submitted {len(sets)} resource sets as Slurm job {job_id}"
        case Refused(words=words):
            site.store.submissions.settle(submission.token)
            return _fail_all(site, sets, f"Slurm refused the job: {words}")
        case Busy(words=words):
            error = f"Slurm takes no more jobs for now: {words}"
            _postpone(site, sets, error)
            site.store.submissions.settle(submission.token)
        case Unknown(words=words):
            error = f"Slurm gave no clear answer ({words}); the job is looked for by its name, {submission.token}"
            for record in sets:
                site.store.sets.note(record.wgroup_id, pending_reason=error)
    log.warning("%s", error)
    return error


def adopt(site: Site, submission: SubmissionRecord, sets: Sequence[ResourceSetRecord], job_id: str) -> None:
    """The submission has a job: write it down, wherever it was learnt."""
    site.store.submissions.record_job(submission.token, job_id)
    submission = replace(submission, job_id=job_id)
    for record in sets:
        job = submission.job_of(record.slurm_task)
        waiting = site.store.sets.transition(
            record,
            State.PENDING,
            f"submitted as Slurm job {job}",
            expected=[State.SUBMITTING],
            check_version=False,
            slurm_job=job,
            pending_reason="",
            error="",
        )
        now = site.store.sets.get(record.wgroup_id) if waiting is None else None
        if now is not None and submission_of(now) == submission.token:
            # Its launcher was faster, or it is being released.
            site.store.sets.note(record.wgroup_id, slurm_job=job)


def _fail_all(site: Site, sets: Sequence[ResourceSetRecord], error: str) -> str:
    for record in sets:
        site.store.sets.transition(record, State.FAILED, error, error=error)
    log.error("%s", error)
    return error


def _postpone(site: Site, sets: Sequence[ResourceSetRecord], why: str) -> None:
    """Back into the queue for a while; a limit of the site is no failure, however long it lasts."""
    again = site.store.time() + TRY_AGAIN * random.uniform(0.8, 1.2)  # noqa: S311 - jitter
    for record in sets:
        site.store.sets.transition(
            record,
            State.REQUESTED,
            why,
            token="",
            pending_reason=why,
            next_try_at=f"{again:.6f}",
            expires_at=f"{again + REQUEST_TIME:.6f}",
        )


def submission_of(record: ResourceSetRecord) -> str:
    """The submission that a set's token belongs to."""
    return record.token.partition(".")[0]
