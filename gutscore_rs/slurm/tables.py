"""Reading what squeue and sacct print. Times are asked for as Unix seconds, see ``commands.FORMATS``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gutscore_rs.slurm.views import JobView

# squeue(1), --format: id, array id, task, state, reason, start, end, nodes; the name last, as it may hold anything.
QUEUE_FORMAT = "%A|%F|%K|%T|%r|%S|%e|%N|%j"
_QUEUE_COLUMNS = QUEUE_FORMAT.count("|") + 1
# sacct(1): full names, since shortened ones match something else (`time` is Timelimit).
HISTORY_FIELDS = "JobID,State,Start,End,ExitCode,NodeList,JobName"
_HISTORY_COLUMNS = HISTORY_FIELDS.count(",") + 1
_HISTORY_ID = re.compile(r"(\d{1,10})(?:\+\d+)?(?:_(\d+|\[[^]]*\]))?", re.ASCII)


def read_queue(text: str) -> tuple[JobView, ...]:
    """Jobs in the output of squeue; lines that are none (banners, names with a line break) are passed over."""
    return tuple(_queue_rows(text))


def _queue_rows(text: str) -> Iterator[JobView]:
    for line in text.splitlines():
        cells = line.split("|", _QUEUE_COLUMNS - 1)
        if len(cells) != _QUEUE_COLUMNS or not cells[0].strip().isdigit() or not cells[1].strip().isdigit():
            continue
        job_id, array_id, task, state, reason, start, end, nodes = (cell.strip() for cell in cells[:-1])
        yield JobView(
            job_id=job_id,
            array_id=array_id,
            task=_task(task),
            name=cells[-1],
            state=state,
            reason="" if reason == "None" else reason,
            start=_moment(start),
            end=_moment(end),
            nodes=nodes,
        )


def _task(text: str) -> str:
    """``4`` is one task; all else stands for tasks that were not split off yet."""
    if text in ("", "N/A"):
        return ""
    return text if text.isdigit() else f"[{text.strip('[]')}]"


def _moment(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() else 0.0


def read_history(text: str) -> Iterator[JobView]:
    """Jobs in the output of sacct; of one that was requeued the newest start comes last."""
    for line in text.splitlines():
        cells = line.split("|", _HISTORY_COLUMNS - 1)
        found = _HISTORY_ID.fullmatch(cells[0].strip()) if len(cells) == _HISTORY_COLUMNS else None
        if found is None:
            continue
        _, state, start, end, exit_code, nodes, name = (cell.strip() for cell in cells)
        yield JobView(
            job_id=found[1],
            array_id=found[1],
            task=found[2] or "",
            name=name,
            state=state,
            start=_moment(start),
            end=_moment(end),
            nodes="" if nodes == "None assigned" else nodes,
            exit_code=exit_code,
        )
