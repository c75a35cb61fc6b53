"""What sbatch's reply proves: submitted, refused, busy, or nothing.

An error is no proof that there is no job: "Socket timed out" comes after the job was taken as well as before, and
slurmctld takes the job of an sbatch that was killed while it was stopped (rulings 16). Tools that submit again after
an error run jobs twice: nextflow#970, rwth-i6/sisyphus#281, executorlib#721. So only words that Slurm says after it
judged the job count as refused; whatever speaks of the way to the controller, or cannot be read, is unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gutscore_rs.slurm.commands import Finished
from gutscore_rs.slurm.job_ids import parse_reply


@dataclass(frozen=True, slots=True)
class Submitted:
    """There is a job; ``cluster`` is "" if sbatch named none."""

    job_id: str
    cluster: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Slurm said no for good."""

    words: str


@dataclass(frozen=True, slots=True)
class Busy:
    """A limit on submissions was reached, or the partition is closed for now: wait and try again."""

    words: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """No proof either way: look the token up before anything else is done."""

    words: str


Submission = Submitted | Refused | Busy | Unknown

# Texts of slurm_strerror(3) and of sbatch about the way to the controller or to the credentials.
_NO_PROOF = re.compile(
    r"timed out|unable to contact|connect|connection|transport endpoint|network is unreachable|no route to host"
    r"|zero bytes were transmitted|message (?:receive|send) failure|message length|unexpected message"
    r"|standby mode|configuration (?:source|file)|controller|authentication|credential|munge|broken pipe"
    r"|communication|problem talking to (?:the )?database|can't be reached|no clusters can be reached"
    r"|slurm internal error|cannot allocate memory|i/o error|protocol",
    re.IGNORECASE,
)
# Limits that other jobs' ends lift, and what an administrator closes for a while.
_WAIT = re.compile(
    r"violates accounting/QOS policy|resource temporarily unavailable"
    r"|temporarily unable to accept job|required partition not available|required node not available"
    r"|requested nodes are busy|maintenance",
    re.IGNORECASE,
)
# slurmctld names the limit in a line of its own, before "Job violates accounting/QOS policy".
_SUBMIT_LIMIT = re.compile(r"(?:QOS|Assoc)(?:Max|Grp)\w*Submit\w*")
_FINAL = re.compile(r"(?:batch job submission failed|allocation failure): *(?P<words>.*)", re.IGNORECASE)
# How sbatch begins what it says for itself; a wrapper or a shell that failed does not.
_OWN = re.compile(r"^(?:sbatch: |allocation failure:)", re.MULTILINE)


def judge(done: Finished) -> Submission:
    """What an ended ``sbatch --parsable`` proves."""
    if done.code == 0:
        if reply := parse_reply(done.out):
            return Submitted(*reply)
        return Unknown(f"sbatch ended well, but named no job: {done.words}")
    return judge_failure(done)


def judge_failure(done: Finished) -> Refused | Busy | Unknown:
    """Why an sbatch failed."""
    if done.code is None or done.code < 0:
        return Unknown(done.words)
    finals = _FINAL.findall(done.err)
    # Tries that sbatch repeated by itself leave lines before the last one, which alone tells how it ended.
    decisive = finals[-1] if finals else done.err
    if _WAIT.search(decisive) or _SUBMIT_LIMIT.search(done.err):
        return Busy(done.words)
    if _NO_PROOF.search(decisive) or not _OWN.search(done.err):
        return Unknown(done.words)
    return Refused(done.words)
