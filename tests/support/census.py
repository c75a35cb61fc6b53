"""Who really runs, whatever Redis says: launchers and workers of a case by the marks that they carry."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from support.processes import log_of, parent_of

from gutscore_rs.processes import _mark_of, marked_processes

Launches = dict[str, "Running"]


@dataclass
class Running:
    """What runs of one launch."""

    launchers: list[int] = field(default_factory=list)
    workers: list[int] = field(default_factory=list)


def census(root: Path) -> dict[str, Launches]:
    """By set (``<mark of the case>:<id>``), by token: the processes of all cases under a folder."""
    found: dict[str, Launches] = defaultdict(lambda: defaultdict(Running))
    marked = {pid: (_mark_of(pid) or "", log_of(pid)) for pid in marked_processes(str(root), prefix=True)}
    for pid, (mark, log) in marked.items():
        case, _, rest = mark.rpartition(":")
        if not rest:
            continue
        wgroup_id, _, token = rest.split("/")[:3]
        running = found[f"{case}:{wgroup_id}"][token]
        if log.startswith("worker-"):
            running.workers.append(pid)
        elif log == "launcher.log" and marked.get(parent_of(pid), ("", ""))[1] != log:
            running.launchers.append(pid)
    return found


class Watch(threading.Thread):
    """Looks at who runs, again and again: no set may ever have workers of two launches.

    Attributes:
        doubles: What was seen that may not be, by set.
    """

    def __init__(self, root: Path, interval: float = 0.2) -> None:
        super().__init__(daemon=True)
        self._root, self._interval = root, interval
        self._over = threading.Event()
        self.doubles: dict[str, str] = {}
        self.looks = 0
        self.start()

    def run(self) -> None:
        while not self._over.wait(self._interval):
            self.looks += 1
            for wgroup_id, launches in census(self._root).items():
                with_workers = {token: running for token, running in launches.items() if running.workers}
                if len(with_workers) > 1:
                    self.doubles.setdefault(wgroup_id, str(with_workers))

    def end(self) -> None:
        self._over.set()
        self.join()
