"""Slurm's states of jobs, as what they mean for a resource set.

Base states and the flags that are shown in their place stand in squeue(1), JOB STATE CODES; the list grows with
Slurm's versions, so an unknown word never means that a job is gone.
"""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What a state means: it will run, it runs, it is ending, it is over, or nobody knows."""

    WAITING = "waiting"
    UP = "up"
    DRAINING = "draining"
    GONE = "gone"
    UNKNOWN = "unknown"


_WORDS = {
    # A job that was requeued waits again, held or not. Nodes that boot for a job do not run it yet.
    Verdict.WAITING: (
        "PENDING CONFIGURING REQUEUED REQUEUE_FED REQUEUE_HOLD SPECIAL_EXIT RESV_DEL_HOLD EXPEDITING POWER_UP_NODE"
    ),
    # Suspended and stopped jobs keep their nodes; that their workers do not work is seen by their leases.
    Verdict.UP: "RUNNING SUSPENDED STOPPED RESIZING SIGNALING",
    Verdict.DRAINING: "COMPLETING STAGE_OUT UPDATE_DB",
    Verdict.GONE: (
        "COMPLETED CANCELLED FAILED TIMEOUT NODE_FAIL PREEMPTED BOOT_FAIL DEADLINE OUT_OF_MEMORY REVOKED LAUNCH_FAILED "
        "RECONFIG_FAIL"
    ),
}
_VERDICTS = {word: verdict for verdict, words in _WORDS.items() for word in words.split()}

# Reasons of a pending job that never pass unless somebody edits the job, the association or the partition
# (squeue(1), JOB REASON CODES). PartitionConfig is what 22.05 says of a job over its partition's limits. A partition
# or node that is down comes back; limits of QOS and association on what runs at once pass by themselves.
HOPELESS = frozenset(
    "AssocMaxWallDurationPerJobLimit BadConstraints DependencyNeverSatisfied InvalidAccount InvalidQOS "
    "PartitionConfig PartitionNodeLimit PartitionTimeLimit QOSMaxWallDurationPerJobLimit".split()
)


def verdict_of(state: str) -> Verdict:
    """The meaning of a state as squeue or sacct writes it, also ``CANCELLED by 1000``."""
    word = state.split(None, 1)[0].rstrip("+").upper() if state.strip() else ""
    return _VERDICTS.get(word, Verdict.UNKNOWN)
