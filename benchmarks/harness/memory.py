"""What processes cost in memory: proportional and unique set size (proc(5), smaps_rollup)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

MIB = 1024.0


@dataclass(frozen=True, slots=True)
class Footprint:
    """Mean of some processes, in MiB.

    Attributes:
        pss: Their own pages and their share of the shared ones: what one more process costs in the end.
        uss: Their own pages only: what goes away with one.
        rss: All their pages.
    """

    pss: float
    uss: float
    rss: float


def _rollup(pid: int) -> dict[str, float]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: float(rest.split()[0]) / MIB for name, _, rest in (line.partition(":") for line in lines)}


def footprint(pids: Iterable[int]) -> Footprint:
    """The mean footprint of processes."""
    maps = [_rollup(pid) for pid in pids]
    count = len(maps)
    return Footprint(
        sum(entry["Pss"] for entry in maps) / count,
        sum(entry["Private_Clean"] + entry["Private_Dirty"] for entry in maps) / count,
        sum(entry["Rss"] for entry in maps) / count,
    )


def descendants(pid: int) -> Iterator[int]:
    """Pids of everything below a process."""
    yield from (child.pid for child in psutil.Process(pid).children(recursive=True))
