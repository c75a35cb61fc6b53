"""Looking at processes by pid, as tests do."""

from __future__ import annotations

import time
from pathlib import Path

from support.waiting import wait_until

from gutscore_rs.identity import process_stat


def lives(pid: int) -> bool:
    """Whether a process runs; a zombie has ended."""
    stat = process_stat(pid)
    return stat is not None and stat[0] not in "ZX"


def parent_of(pid: int) -> int:
    """Its parent; 0 when there is no such process any more."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    return int(text[text.rindex(")") + 2 :].split()[1])


def log_of(pid: int) -> str:
    """Name of the file that its output goes to."""
    try:
        return Path(f"/proc/{pid}/fd/1").readlink().name
    except OSError:
        return ""


def survivors(pids: list[int]) -> list[int]:
    return [pid for pid in pids if lives(pid)]


def read_pids(file: Path, count: int) -> list[int]:
    """Pids that tasks have written to a file, once there are ``count``."""
    return wait_until(
        lambda: (found := _numbers(file)) and len(found) >= count and found, 15, what=f"{count} pids in {file.name}"
    )


def _numbers(file: Path) -> list[int]:
    return [int(word) for word in file.read_text().split() if word.isdigit()] if file.exists() else []


class Stopwatch:
    """How long something took, for promises in seconds."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began
