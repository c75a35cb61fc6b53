"""What Slurm's words for a job's state and reason mean to us: four verdicts, and "unknown, keep".

The words are those of squeue(1), JOB STATE CODES and JOB REASON CODES. Newer versions have more: a word that is not
here is :attr:`Verdict.UNKNOWN`, never GONE. Parsl took words that it did not know for the end of the job and
submitted more and more (Parsl#2255); HyperQueue gave up on PREEMPTED and NODE_FAIL (HQ#937).
"""

from __future__ import annotations

import re
from enum import StrEnum


class Verdict(StrEnum):
    """What a job is to us."""

    WAITING = "waiting"
    UP = "up"
    DRAINING = "draining"
    GONE = "gone"
    UNKNOWN = "unknown"


_WORDS = {
    # On its way, or again so under the same id: a job that is requeued is not gone.
    Verdict.WAITING: ("PENDING CONFIGURING REQUEUED REQUEUE_FED REQUEUE_HOLD SPECIAL_EXIT RESV_DEL_HOLD EXPEDITING"),
    # SUSPENDED and STOPPED: its processes are stopped but there, and go on one day.
    Verdict.UP: "RUNNING SUSPENDED STOPPED RESIZING SIGNALING",
    # Its end is certain, but processes of it may still live.
    Verdict.DRAINING: "COMPLETING STAGE_OUT",
    Verdict.GONE: ("COMPLETED CANCELLED FAILED TIMEOUT NODE_FAIL PREEMPTED BOOT_FAIL DEADLINE OUT_OF_MEMORY REVOKED"),
}
VERDICTS = {word: verdict for verdict, words in _WORDS.items() for word in words.split()}

# Pending for a reason that only an edit of the job or of the configuration ends. Not here, on purpose:
# * JobHeldUser, JobHeldAdmin: somebody held it and can release it.
# * PartitionNodeLimit: also said while nodes are DOWN or DRAINED (squeue(1)).
# * limits in sum (QOSGrp*, AssocGrp*, *PerUser*, *Jobs*): they free themselves as other jobs end.
# * ReqNodeNotAvail, PartitionDown, PartitionInactive, Reservation, Licenses: they come back.
_HOPELESS = frozenset(
    {
        "PartitionTimeLimit",  # longer than the partition's MaxTime
        "PartitionConfig",  # more than the partition's nodes together have (22.05: tried with -n 17 on 16 CPUs)
        "BadConstraints",
        "AccountNotAllowed",
        "QOSNotAllowed",
        "InvalidAccount",
        "InvalidQOS",
        "DependencyNeverSatisfied",
    }
)
# Limits on one job by itself, which this job exceeds (or stays below): QOSMaxWallDurationPerJobLimit and the like.
_HOPELESS_LIMITS = re.compile(r"(?:QOS|Assoc)(?:Max\w+Per(?:Job|Node)(?:Limit)?|Min\w+)")


def first_word(state: str) -> str:
    """A state without its ending: sacct says "CANCELLED by 0", other programs "CANCELLED+"."""
    words = state.split()
    return words[0].rstrip("+") if words else ""


def verdict_of(state: str) -> Verdict:
    """The verdict on a state in Slurm's words."""
    return VERDICTS.get(first_word(state), Verdict.UNKNOWN)


def never_starts(reason: str) -> bool:
    """Whether a job that is pending for this reason waits for ever, unless it or the configuration is changed."""
    word = first_word(reason.strip("()")).rstrip(",")
    return word in _HOPELESS or _HOPELESS_LIMITS.fullmatch(word) is not None
