"""Reads sacct: what became of jobs that squeue no longer shows. Many sites have no accounting; it is also late."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from gutscore_rs.slurm.jobs import JobView
from gutscore_rs.slurm.queue import unix_time

_DELIMITER = "\x1f"
_FIELDS = ("JobID", "JobIDRaw", "State", "Start", "End", "ExitCode", "NodeList", "JobName")
# A clock that differs from slurmctld's, and the hour that local time has twice in autumn.
_MARGIN_SECONDS = 2 * 3600


def sacct_command(since: float) -> list[str]:
    """Sacct for allocations of this user since a time; without ``--starttime`` sacct begins at midnight."""
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(max(0.0, since - _MARGIN_SECONDS)))
    return [
        *("sacct", "--noheader", "--parsable2", f"--delimiter={_DELIMITER}", "--allocations"),
        *(f"--uid={os.getuid()}", f"--starttime={start}", f"--format={','.join(_FIELDS)}"),
    ]


def parse_history(text: str) -> Iterable[JobView]:
    """The jobs that sacct printed; lines that cannot be read are left out."""
    for line in text.split("\n"):
        fields = line.split(_DELIMITER, len(_FIELDS) - 1)
        if len(fields) != len(_FIELDS):
            continue
        shown, raw, state, start, end, code, nodes, name = fields
        array, _, task = shown.partition("_")
        job = raw.partition("+")[0]
        if not (job.isdigit() and array.partition("+")[0].isdigit() and state):
            continue
        yield JobView(
            job_id=job,
            array_id=array.partition("+")[0],
            task=task,
            name=name,
            state=state,
            start=unix_time(start),
            end=unix_time(end),
            nodes="" if nodes == "None assigned" else nodes,
            exit_code=code,
        )
