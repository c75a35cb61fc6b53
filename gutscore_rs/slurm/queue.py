"""Reads squeue.

One call for all jobs of the user (``--me``), finished ones too (``--states=all``: Slurm remembers them for
MinJobAge, 300 s), in hidden partitions too (``--all``). Arrays are not expanded: the pending rest of an array is one
line, its running tasks one each. Tried with 22.05: a pending task that is cancelled by itself leaves no line at all, so
absence proves nothing alone; when the whole pending rest is cancelled, its line loses its indices and says CANCELLED
under the array's id, while other tasks of it run.

The format is ``-O``, which has RestartCnt; a field "Name:<suffix>" has the width it needs (squeue's parse of sizes
is the same in all versions since suffixes exist). ``--json`` is not used: its schema changes with the version.
"""

from __future__ import annotations

import re

from gutscore_rs.errors import SlurmUnavailableError
from gutscore_rs.slurm.jobs import JobView
from gutscore_rs.slurm.states import Verdict, verdict_of

# Unit and record separator of ASCII: no field but a foreign job's name can hold them. The name stands last.
_UNIT, _RECORD = "\x1f", "\x1e"
_FIELDS = (
    *("JobID", "ArrayJobID", "ArrayTaskID", "State", "StartTime", "EndTime"),
    *("RestartCnt", "exit_code", "NodeList", "Reason"),
)
_FORMAT = ",".join(f"{field}:{_UNIT}" for field in _FIELDS) + f",Name:{_RECORD}"
SQUEUE = ("squeue", "--noheader", "--all", f"--Format={_FORMAT}")
_NOTHING = frozenset({"", "N/A", "NONE", "Unknown", "(null)", "None"})
_NUMBER = re.compile(r"\d+", re.ASCII)


def parse_queue(text: str) -> tuple[tuple[JobView, ...], int]:
    """The jobs that squeue printed, and how many lines could not be read.

    Raises:
        SlurmUnavailableError: There is text, but no job in it could be read: this is no queue.
    """
    views, odd = [], 0
    for record in text.split(f"{_RECORD}\n"):
        if not record.strip():
            continue
        if view := _view(record):
            views.append(view)
        else:
            odd += 1
    if odd and not views:
        raise SlurmUnavailableError(
            f"squeue printed what is no list of jobs: {text[:200]!r}. Look what `squeue --me` prints here; a wrapper "
            "around it, or a Slurm older than 20.11, could be the cause."
        )
    return tuple(views), odd


def _view(record: str) -> JobView | None:
    fields = record.split(_UNIT, len(_FIELDS))
    if len(fields) != len(_FIELDS) + 1:
        return None
    # A banner may stand before the first record.
    job_id, array_id, task, state, start, end, restarts, code, nodes, reason = (
        field.strip() for field in (fields[0].rpartition("\n")[2], *fields[1:-1])
    )
    if not (_NUMBER.fullmatch(job_id) and _NUMBER.fullmatch(array_id) and state):
        return None
    return JobView(
        job_id=job_id,
        array_id=array_id,
        task=_task(task),
        name=fields[-1],
        state=state,
        reason=_some(reason),
        start=unix_time(start),
        end=unix_time(end),
        nodes=_some(nodes),
        restarts=int(restarts) if _NUMBER.fullmatch(restarts) else -1,
        exit_code=_exit_code(code) if verdict_of(state) is Verdict.GONE else "",
    )


def _task(text: str) -> str:
    if not _some(text):
        return ""
    return text if _NUMBER.fullmatch(text) else f"[{text.strip('[]')}]"


def _some(text: str) -> str:
    return "" if text in _NOTHING else text


def unix_time(text: str) -> float:
    """Unix seconds as SLURM_TIME_FORMAT=%s prints them; 0.0 for "N/A", "NONE" and "Unknown"."""
    stripped = text.strip()
    return float(stripped) if _NUMBER.fullmatch(stripped) else 0.0


def _exit_code(text: str) -> str:
    """What sacct would print, "code:signal", from squeue's one number: a status of wait(2)."""
    if not _NUMBER.fullmatch(text):
        return ""
    status = int(text)
    return f"{status >> 8 & 0xFF}:{status & 0x7F}"
