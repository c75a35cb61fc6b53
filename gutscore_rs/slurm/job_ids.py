"""Ids and names of Slurm jobs: ``123``, ``123_4``, ``123_[1-9%2]``, ``123+0``; they are texts, never numbers.

``int("123_4")`` is 1234 in Python; tools that took ids for numbers lost arrays so (dask-jobqueue#44, #56).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from gutscore_rs.errors import ConfigError

_REPLY = re.compile(r"(?P<id>\d+)(?:;(?P<cluster>\S+))?", re.ASCII)
_TASKS = r"\d+(?:-\d+(?::\d+)?)?"
_JOB = re.compile(rf"\d+(?:_(?:\d+|\[{_TASKS}(?:,{_TASKS})*\])|\+\d+)?", re.ASCII)
_RANGE = re.compile(r"(?P<first>\d+)(?:-(?P<last>\d+)(?::(?P<step>\d+))?)?", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")


def check_token(token: str) -> str:
    """The token itself, if it can name a job.

    Raises:
        ConfigError: It cannot. An empty name would mean every job of the user to scancel.
    """
    if not _TOKEN.fullmatch(token):
        raise ConfigError(f"The token {token[:64]!r} must be 1 to 128 letters, digits, '_' and '-'.")
    return token


def check_job_ids(job_ids: Sequence[str]) -> list[str]:
    """The ids themselves, each once, in order, if all have the form of one.

    Raises:
        ConfigError: One has not.
    """
    if isinstance(job_ids, str):
        raise ConfigError(f"Give a list of job ids, not the text {job_ids[:64]!r}.")
    for job_id in job_ids:
        if not _JOB.fullmatch(job_id):
            raise ConfigError(f"{job_id[:64]!r} is no id of a Slurm job; write '123', '123_4' or '123_[1-3,7]'.")
    return list(dict.fromkeys(job_ids))


def together(job_ids: Iterable[str]) -> list[str]:
    """The same jobs in fewer words: tasks of one array as ``123_[0-2,7]``, which Slurm takes as one request."""
    out: list[str] = []
    tasks: dict[str, set[int]] = {}
    for job_id in job_ids:
        array, _, task = job_id.partition("_")
        if task.isdigit():
            tasks.setdefault(array, set()).add(int(task))
        else:
            out.append(job_id)
    for array, indices in tasks.items():
        ranges = list(_ranges(sorted(indices)))
        alone = len(indices) == 1
        out.append(f"{array}_{ranges[0]}" if alone else f"{array}_[{','.join(ranges)}]")
    return out


def _ranges(indices: Sequence[int]) -> Iterator[str]:
    for _, run in groupby(enumerate(indices), lambda pair: pair[1] - pair[0]):
        members = [index for _, index in run]
        yield str(members[0]) if len(members) == 1 else f"{members[0]}-{members[-1]}"


def parse_reply(text: str) -> tuple[str, str] | None:
    """Id and cluster ("" when unnamed) of ``sbatch --parsable``; None when no line has them.

    The last line that fits counts: sites print banners before and between.
    """
    for line in reversed(text.splitlines()):
        if found := _REPLY.fullmatch(line.strip()):
            return found["id"], found["cluster"] or ""
    return None


def task_holds(task: str, index: int) -> bool:
    """Whether the task field of a job speaks for an index: ``4``, ``[1-9%2]``, ``[1,3-5]``, ``[1-9:2]``.

    A list that Slurm has cut short ("...") may hold any index: what is not known to be gone is kept.
    """
    inner = task.strip("[]").partition("%")[0]
    if inner.endswith("."):
        return True
    return any(_range_holds(part, index) for part in inner.split(",") if part)


def _range_holds(part: str, index: int) -> bool:
    found = _RANGE.fullmatch(part)
    if found is None:
        return False
    first = int(found["first"])
    return index in range(first, int(found["last"] or first) + 1, int(found["step"] or 1) or 1)
