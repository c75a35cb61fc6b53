"""A case under load for a while: sets come and go, workers are killed, and what grows is measured."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import statistics
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from rq import Queue
from support.cases import LiveCase
from support.ledger import Ledger

from gutscore_rs.processes import marked_processes
from gutscore_rs.store import task_queue
from gutscore_rs.store.records import State

STAYING, COMING_AND_GOING = 0, (1, 2, 3, 4)
NWORKERS = 2
# 10,000 jobs in 15 minutes.
JOBS_PER_SECOND = 10_000 / 900
KILL_EVERY, SAMPLES = 3.0, 60
QUEUES = ("urgent", "tasks")
# The kinds of keys that are told apart; whatever is left is "other".
PATTERNS = {
    "operations": r"rq:(job|results|executions|execution):op-",
    "jobs": r"rq:(job|results|dependents|executions|execution):",
    "registries": r"rq:(queue|wip|finished|failed|deferred|scheduled|canceled|queues|workers)",
    "workers": r"rq:worker:",
    "nonces": r"gutscore:\{\w+\}:nonce:",
    "sets": r"gutscore:\{\w+\}:resource_set",
    "other": r"",
}


@dataclass
class Table:
    """Samples in columns, one row per moment; what is not there at a moment is left out of its row."""

    seconds: list[float] = field(default_factory=list)
    rows: list[dict[str, float]] = field(default_factory=list)

    def add(self, second: float, row: Mapping[str, float]) -> None:
        self.seconds.append(second)
        self.rows.append(dict(row))

    def text(self) -> str:
        """Tab-separated, the seconds first."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        lines = ["\t".join(["s", *names])]
        for second, row in zip(self.seconds, self.rows, strict=True):
            lines.append("\t".join([f"{second:.0f}", *(f"{row[name]:g}" if name in row else "" for name in names)]))
        return "\n".join(lines)

    def growth(self, name: str, *, warm_up: float) -> float:
        """How much a column rises from the first to the last quarter of what follows the warm-up (medians).

        Args:
            name: The column.
            warm_up: Share of the time that does not count.
        """
        values = [row[name] for row in self.rows[int(len(self.rows) * warm_up) :] if name in row]
        assert len(values) >= 8, f"{name} has only {len(values)} samples"
        quarter = len(values) // 4
        return statistics.median(values[-quarter:]) - statistics.median(values[:quarter])


@dataclass
class Soak:
    """The load, and what it does to the processes that live through it."""

    case: LiveCase
    ledger: Ledger
    dice: random.Random
    table: Table = field(default_factory=Table)
    killed: int = 0
    requests: int = 0
    ended_by_release: set[int] = field(default_factory=set)
    _due: dict[int, float] = field(default_factory=dict)

    def run(self, seconds: float) -> None:
        """Load the case for a while, then let it come to rest; nothing here waits for one set or job."""
        for wgroup_id in (STAYING, *COMING_AND_GOING):
            self._request(wgroup_id)
        self.case.wait_active(STAYING, NWORKERS)
        began = time.monotonic()
        next_kill, next_sample, next_look = began + KILL_EVERY, began, began
        while (now := time.monotonic()) < began + seconds:
            while len(self.ledger.kinds) < (now - began) * JOBS_PER_SECOND:
                self.ledger.enqueue(self.dice.choice(self.queues), self.dice)
            for wgroup_id in COMING_AND_GOING:
                self._come_and_go(wgroup_id, now)
            if now >= next_look:
                next_look = now + 1.0
                self.ledger.collect()
            if now >= next_kill:
                next_kill = now + KILL_EVERY
                self._kill_one()
            if now >= next_sample:
                next_sample = now + seconds / SAMPLES
                self.table.add(now - began, self.sample())
            time.sleep(0.05)  # the pace of the load

    @property
    def queues(self) -> list[Queue]:
        return [Queue(task_queue(self.case.name, name), connection=self.case.store.client) for name in QUEUES]

    def _request(self, wgroup_id: int) -> None:
        names = [task_queue(self.case.name, name) for name in QUEUES]
        self.requests += 1
        self.case.request(wgroup_id, nworkers=NWORKERS, queues=names, max_restarts=1000, runtime=3600, wait=False)
        self._due[wgroup_id] = time.monotonic() + self.dice.uniform(4, 15)

    def _come_and_go(self, wgroup_id: int, now: float) -> None:
        """Release what has been there for its time; request it again some seconds after its end."""
        if now < self._due[wgroup_id]:
            return
        state = self.case.state_of(wgroup_id)
        if state is State.ACTIVE:
            self.ended_by_release.update(self.case.pids(wgroup_id))
            self.case.operations.begin_release(wgroup_id)
            self._due[wgroup_id] = now + self.dice.uniform(0.5, 3)
        elif state is State.RELEASED:
            self._request(wgroup_id)
        else:
            assert state not in (State.FAILED, State.EXPIRED), self.case.error_of(wgroup_id)

    def _kill_one(self) -> None:
        """One of the workers, but for the first one of the set that stays: it is measured."""
        spared = self._worker()
        pids = [pid for wgroup_id in (STAYING, *COMING_AND_GOING) for pid in self.case.pids(wgroup_id)]
        if pids := [pid for pid in pids if pid != spared]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.dice.choice(pids), signal.SIGKILL)
            self.killed += 1

    def _worker(self) -> int:
        return next(worker.pid for worker in self.case.store.workers.alive([STAYING]) if worker.index == 0)

    # -- measures ---------------------------------------------------------------------------------------------

    def processes(self) -> dict[str, int]:
        """Who lives through it all."""
        assert self.case.server.process is not None
        found = {f"provisioner{number}": one.pid for number, one in enumerate(self.case.provisioners)}
        return found | {
            "launcher": self.case.launcher(STAYING).pid,
            "worker": self._worker(),
            "server": self.case.server.process.pid,
        }

    def sample(self) -> dict[str, float]:
        """Memory in MB, descriptors, keys by kind, sizes of logs in kB."""
        row: dict[str, float] = {}
        for name, pid in self.processes().items():
            process = psutil.Process(pid)
            memory = process.memory_full_info()
            row |= {f"{name} rss": memory.rss / 1e6, f"{name} pss": memory.pss / 1e6, f"{name} uss": memory.uss / 1e6}
            row[f"{name} fds"] = process.num_fds()
        kinds: Counter[str] = Counter(dict.fromkeys(PATTERNS, 0))
        for key in self.case.store.client.scan_iter(count=1000):
            kinds[next(kind for kind, pattern in PATTERNS.items() if re.match(pattern, key.decode()))] += 1
        row |= {f"keys {kind}": count for kind, count in kinds.items()}
        row["entries of queues and registries"] = self._entries()
        row["server used"] = self.case.store.client.info("memory")["used_memory"] / 1e6
        logs = list(self.case.folder.logs.rglob("*.log"))
        row["log provisioner"] = self.case.folder.log("provisioner").stat().st_size / 1e3
        row["log launcher"] = _size(self.case.folder.logs / f"set-{STAYING}" / "g1" / "launcher.log") / 1e3
        row["logs"] = sum(map(_size, logs)) / 1e3
        # What jobs leave behind lives as long as its worker, and has a child each.
        row["helpers"] = 2 * len(self.ledger.helpers())
        marked = len(marked_processes(f"{self.case.folder.root}:", prefix=True))
        row["processes without helpers"] = marked - row["helpers"]
        return row

    def _entries(self) -> int:
        """Of the task queues; RQ keeps what operations were for an hour."""
        names = [queue.name for queue in self.queues]
        return sum(sum(tally.values()) for tally in self.case.store.jobs.tallies(names).values())


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
