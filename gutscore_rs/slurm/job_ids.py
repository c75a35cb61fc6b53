"""Slurm's names of jobs: ``123``, ``123_4`` (array task), ``123_[1-9%2]`` (tasks not split off yet), ``123+1`` (het job).

They are text throughout: a tool that reads ``123_4`` as a number gets 1234 (squeue(1), JOB ARRAYS; facts of the field:
dask-jobqueue#44, #56).
"""

from __future__ import annotations

import re

_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?(?::(\d{1,9}))?", re.ASCII)


def covers(task: str, index: int) -> bool:
    """Whether the tasks that squeue shows as ``4`` or ``[1,3-9:2%2]`` contain an index.

    A list that squeue cut off (``[1,3,...]``, beyond SLURM_BITSTR_LEN) is taken to contain what it may contain.
    """
    listed = task.strip("[]").partition("%")[0]
    return any(_in_part(part, index) for part in listed.split(","))


def _in_part(part: str, index: int) -> bool:
    if part.startswith("..."):
        return True
    match = _RANGE.fullmatch(part)
    if match is None:
        return False
    first = int(match[1])
    last, step = int(match[2] or first), int(match[3] or 1)
    return first <= index <= last and (index - first) % max(1, step) == 0


def job_name(array_id: str, task: str) -> str:
    """What scancel calls it."""
    return f"{array_id}_{task}" if task else array_id
