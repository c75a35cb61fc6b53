"""What became of an sbatch: submitted, refused, busy, or unknown.

An error of sbatch does not prove that there is no job: the controller may have taken the request before the answer was
lost, or take it later (nextflow#970, rwth-i6/sisyphus#281). So only what Slurm says about the request itself counts as
refused, and everything else is unknown, to be looked up by the job's name before anything is submitted again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gutscore_rs.slurm.commands import Answer

# The reply of `sbatch --parsable`, among banners that sites print: `id` or `id;cluster` (sbatch(1)).
_REPLY = re.compile(r"(\d{1,10})(?:;(\S+))?", re.ASCII)
# Slurm's words for limits that pass by themselves (slurm/src/common/slurm_errno.c).
_BUSY = re.compile(
    r"QOSMaxSubmit|AssocMaxSubmit|QOSGrpSubmit|AssocGrpSubmit|MaxSubmitJob|"
    r"Job violates accounting/QOS policy|Resource temporarily unavailable|"
    r"Slurm temporarily unable to accept job|job queue is full|MaxJobCount|Maximum number of jobs",
    re.IGNORECASE,
)
# After these the controller may have the job, or get it later.
_UNSURE = re.compile(
    r"Socket timed out|Unable to contact slurm controller|Zero Bytes were transmitted|Connection (refused|reset|timed)|"
    r"Transport endpoint|Communication connection failure|Message (send|receive) failure|slurm_receive_msg|"
    r"in standby|in backup mode|Header lengths are longer|Unexpected message|I/O error|Protocol authentication error|"
    r"Invalid authentication credential|Munge|Slurm backup controller",
    re.IGNORECASE,
)
_REFUSED = re.compile(r"Batch job submission failed|Invalid|invalid|not permitted|error|fatal|unrecognized option")


@dataclass(frozen=True, slots=True)
class Submitted:
    """Slurm has the job."""

    job_id: str
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """Slurm says no to this request, and would again."""

    words: str


@dataclass(frozen=True, slots=True)
class Busy:
    """Slurm says no for now: a limit on what may be submitted at once."""

    words: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """There may be a job, or come to be one."""

    words: str


Submission = Submitted | Refused | Busy | Unknown


def read_reply(answer: Answer) -> Submission:
    """What an sbatch of ours came to."""
    found = next(filter(None, map(_REPLY.fullmatch, map(str.strip, reversed(answer.out.splitlines())))), None)
    if answer.code == 0:
        if found is None:
            return Unknown(f"sbatch gave no job id but {answer.out.strip()[:200]!r}")
        return Submitted(found[1], found[2] or "")
    if answer.code is None or answer.code < 0 or _UNSURE.search(answer.err):
        return Unknown(answer.words[:500])
    if _BUSY.search(answer.err):
        return Busy(answer.words[:500])
    if _REFUSED.search(answer.err):
        return Refused(answer.words[:500])
    return Unknown(answer.words[:500])
