"""Looking at a cluster's queue, once for all: the look is left in Redis for every provisioner of every case."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from gutscore_rs.errors import SlurmError
from gutscore_rs.slurm import JobView, Verdict
from gutscore_rs.slurm.tokens import PREFIX
from gutscore_rs.store import PollKeys
from gutscore_rs.store.polls import PollRecord
from gutscore_rs.store.submissions import SubmissionRecord
from gutscore_rs_workers.site import Cluster, Site

log = logging.getLogger(__name__)

_TYPES = {field.name: {"str": str, "float": float, "int": int}[str(field.type)] for field in fields(JobView)}
# A submission is missing in the queue only some seconds after Slurm took it.
SETTLING = 5.0


@dataclass(frozen=True, slots=True)
class Poll:
    """One look at a queue; times in the views are the server's seconds.

    Attributes:
        at: Server seconds just before Slurm was asked.
        error: Why there was no answer; empty: there was.
        views: Jobs of ours, also those of other cases.
    """

    at: float
    error: str
    views: tuple[JobView, ...]

    def of(self, submission: SubmissionRecord, index: int) -> JobView | None:
        """What is known of one set's job; of several of one name (a submission that happened twice) the one at work."""
        found = [view for view in self.named(submission.token) if len(submission.sets) == 1 or view.is_task(index)]
        if submission.job_id:
            # Of a job that was requeued with another id, or submitted twice, the one that was adopted counts first.
            found.sort(key=lambda view: view.array_id != submission.job_id)
        found.sort(key=lambda view: view.verdict is Verdict.GONE)
        return found[0] if found else None

    def named_job(self, job: str) -> JobView | None:
        """A job by Slurm's name of it."""
        return next((view for view in self.views if view.name_of_job == job), None)

    def named(self, token: str) -> list[JobView]:
        """Jobs of one submission."""
        return [view for view in self.views if view.name == token]


def keys_of(cluster: Cluster) -> PollKeys:
    """Where the looks at a cluster's queue are left."""
    return PollKeys(cluster.limits.name, cluster.user)


def newest(site: Site, cluster: Cluster) -> Poll | None:
    """The newest look, whoever took it."""
    found = site.store.polls.newest(keys_of(cluster))
    return _decoded(found) if found else None


def ask(site: Site, cluster: Cluster, open_: Iterable[SubmissionRecord] = ()) -> Poll:
    """Ask Slurm now. May take as long as Slurm's time limits.

    Args:
        site: The surroundings.
        cluster: Whom to ask.
        open_: Submissions whose jobs should be there; those that are not are asked of the accounting, too.
    """
    at, offset = site.store.time(), site.store.time() - time.time()
    try:
        views = [view for view in cluster.client.queue() if view.name.startswith(PREFIX)]
        views += _history(cluster, views, [one for one in open_ if _should_be_there(one, at)])
    except SlurmError as error:
        return Poll(at, str(error), ())
    return Poll(at, "", tuple(_shifted(view, offset) for view in views))


def look(site: Site, cluster: Cluster, open_: Iterable[SubmissionRecord]) -> Poll:
    """As :func:`ask`, and leave the answer for all."""
    poll = ask(site, cluster, open_)
    site.store.polls.write(keys_of(cluster), poll.at, [asdict(view) for view in poll.views], poll.error)
    return poll


def _should_be_there(submission: SubmissionRecord, now: float) -> bool:
    return bool(submission.submitted_at) and submission.submitted_at < now - SETTLING


def _history(cluster: Cluster, views: Sequence[JobView], open_: Sequence[SubmissionRecord]) -> list[JobView]:
    """What the accounting says of submissions that the queue shows nothing, or not all, of.

    By id where it is known: by name sacct has no job that was cancelled before it could begin (22.05).
    """
    missing = [one for one in open_ if not all(_shown(views, one, index) for index in range(len(one.sets)))]
    if not missing:
        return []
    since = min(one.created_at for one in missing)
    found = cluster.client.history([one.job_id or one.token for one in missing], since) or {}
    seen = {view.name_of_job for view in views}
    return [view for job, view in found.items() if job not in seen]


def _shown(views: Sequence[JobView], submission: SubmissionRecord, index: int) -> bool:
    return any(view.name == submission.token and (len(submission.sets) == 1 or view.is_task(index)) for view in views)


def _shifted(view: JobView, offset: float) -> JobView:
    return replace(
        view,
        start=view.start + offset if view.start else 0.0,
        end=view.end + offset if view.end else 0.0,
    )


def _decoded(record: PollRecord) -> Poll:
    return Poll(record.at, record.error, tuple(view for row in record.rows if (view := _view(row))))


def _view(row: Mapping[str, Any]) -> JobView | None:
    """A view from a row that anybody may have written; None when it is none."""
    if set(row) != set(_TYPES) or not all(isinstance(row[name], kind) for name, kind in _TYPES.items()):
        return None
    return JobView(**row)
