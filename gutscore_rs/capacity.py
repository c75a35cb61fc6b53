"""How many workers this host can hold, by the limits that the system itself sets.

It is no advice: it keeps a slip of the keyboard (``nworkers = 100000``) from filling the process table. What a task
needs is not known here, so a worker counts with what an idle one takes.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gutscore_rs.errors import CapacityError

# What an idle worker has for itself, see docs/performance.md; and what a launcher has open besides its workers.
WORKER_MIB = 8
LAUNCHER_FILES = 64


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit.

    Attributes:
        room: Workers that it leaves room for.
        what: The limit with its numbers, for people.
    """

    room: int
    what: str


def check_room(label: str, nworkers: int, *, oversubscribe: bool = False) -> None:
    """Refuse more workers than this host can hold.

    Raises:
        CapacityError: The tightest limit, with its numbers.
    """
    if oversubscribe:
        return
    tightest = min(limits(), key=lambda limit: limit.room, default=None)
    if tightest is not None and nworkers > tightest.room:
        raise CapacityError(
            f"{label} asks for {nworkers} workers; this host has room for {max(tightest.room, 0)}: {tightest.what}. "
            "Ask for fewer, or set oversubscribe = true."
        )


def limits() -> Iterator[Limit]:
    """The limits that can be known here."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files != resource.RLIM_INFINITY:
        yield Limit(files - LAUNCHER_FILES, f"one open file each, and `ulimit -n` is {files}")
    if sys.platform == "linux":
        yield from _processes()
        yield from _memory()


def _processes() -> Iterator[Limit]:
    # "0.20 0.18 0.12 1/80 11206": of 80 one runs (proc(5)).
    running = int((re.findall(r"/(\d+)", _read(Path("/proc/loadavg"))) or ["0"])[0])
    for name in ("pid_max", "threads-max"):
        most = _number(Path("/proc/sys/kernel") / name)
        if most is not None:
            yield Limit(most - running, f"{running} processes run, and kernel.{name} is {most}")
    most = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    # It does not bind root (setrlimit(2)).
    if most != resource.RLIM_INFINITY and os.geteuid() != 0:
        ours = _processes_of(os.geteuid())
        yield Limit(most - ours, f"{ours} processes of this user run, and `ulimit -u` is {most}")
    for folder in _cgroups():
        most, current = _number(folder / "pids.max"), _number(folder / "pids.current")
        if most is not None and current is not None:
            yield Limit(most - current, f"{current} processes run in {folder}, whose pids.max is {most}")


def _memory() -> Iterator[Limit]:
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            free = int(line.split()[1]) // 1024
            yield Limit(free // WORKER_MIB, f"{WORKER_MIB} MiB each before any task, and {free} MiB are free")
    for folder in _cgroups():
        most, current = _number(folder / "memory.max"), _number(folder / "memory.current")
        if most is not None and current is not None:
            free = (most - current) >> 20
            yield Limit(free // WORKER_MIB, f"{WORKER_MIB} MiB each before any task, and {folder} has {free} MiB left")


def _cgroups() -> Iterator[Path]:
    """The control groups of this process, the innermost first (cgroups(7), version 2)."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        if line.startswith("0::"):
            root, path = Path("/sys/fs/cgroup"), Path(line[3:])
            yield from (root / part.relative_to("/") for part in (path, *path.parents))


def _processes_of(user: int) -> int:
    count = 0
    for name in os.listdir("/proc"):
        # One that has ended meanwhile is nobody's.
        with contextlib.suppress(OSError):
            count += name.isdigit() and Path("/proc", name).stat().st_uid == user
    return count


def _number(file: Path) -> int | None:
    """The whole number in a file; None where there is none, or no limit ("max")."""
    text = _read(file).strip()
    return int(text) if text.isdigit() else None


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
