"""The crew: forking, watching and restarting the workers of one launch."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gutscore_rs.identity import identify
from gutscore_rs.processes import Trail, kill_trail
from gutscore_rs.store import End as JobEnd
from gutscore_rs.store import Store
from gutscore_rs_workers.affinity import bind_cpus, gpu_environment, share
from gutscore_rs_workers.allocation import Grant
from gutscore_rs_workers.children import Child, End, fork_process, how_it_ended, new_nonce, oom_kills
from gutscore_rs_workers.launch import Launch
from gutscore_rs_workers.rq_bridge import JobBooks
from gutscore_rs_workers.shared_memory import Cursor, SharedMemory
from gutscore_rs_workers.worker import IDLE, QUIT, READY, TOOK, WAKE, Worker, WorkerContext

log = logging.getLogger(__name__)

# Workers that die before they are of use are started again after 0.1, 0.2 ... 10 s, and the set fails once that
# happened `max_restarts` times within a minute.
FIRST_BACKOFF, LONGEST_BACKOFF, CRASH_WINDOW = 0.1, 10.0, 60.0
USEFUL_LIFE = 2.0
# A worker that was sent to look has said by then what it found, unless something is wrong.
LONGEST_LOOK = 1.0


@dataclass(frozen=True, slots=True)
class Death:
    """A worker that was waited for.

    Attributes:
        cursor: What it was running.
        ends: What it had done and perhaps not booked.
        reason: How it ended, for people.
        in_order: It was told to go.
        clean: It went by itself and holds no job for certain.
    """

    child: Child
    cursor: Cursor
    ends: Sequence[JobEnd]
    reason: str
    in_order: bool
    clean: bool


def extend_path(spec: Mapping[str, Any]) -> None:
    """Make the project's own modules importable in this process."""
    for folder in reversed(spec.get("path", [])):
        if folder not in sys.path:
            sys.path.insert(0, folder)


class Crew:
    """The workers of one launch on this host.

    Args:
        launch: What is launched.
        memory: Shared with the workers.
        grant: CPUs and GPUs to spread.
    """

    def __init__(self, launch: Launch, memory: SharedMemory, grant: Grant) -> None:
        self._launch = launch
        self._memory = memory
        self._grant = grant
        self.children: dict[int, Child] = {}
        self._restarts: dict[int, float] = {}
        self._crashes: deque[float] = deque()
        self._backoff: dict[int, float] = {}
        self._oom_kills = oom_kills()
        self.last_crash = ""

    @property
    def crashes_in_window(self) -> int:
        """Useless deaths within the last minute."""
        while self._crashes and self._crashes[0] < time.monotonic() - CRASH_WINDOW:
            self._crashes.popleft()
        return len(self._crashes)

    def start_all(self) -> None:
        """Fork every worker."""
        for index in self._launch.indices:
            self.start(index)

    def start(self, index: int) -> Child:
        """Fork worker ``index``."""
        launch = self._launch
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        nonce = new_nonce()
        rq_name = f"{launch.access.case}.{launch.wgroup_id}.{launch.generation}.{index}.{nonce}"
        context = WorkerContext(
            lambda: Store.open(launch.access, name=rq_name),
            JobBooks,
            index,
            rq_name,
            launch.queues,
            theirs,
            self._memory,
            launch.timeout_grace,
            launch.largest_batch,
            launch.access.signing_key,
            isolated=launch.isolated,
        )
        self._memory.reset(index)
        pid = fork_process(
            lambda: self._become_worker(context),
            keep=[theirs.fileno()],
            log_file=self._log_file(index),
            mark=self._worker_mark(nonce),
            title=f"gutscore_rs: worker {index} of {launch.label}",
        )
        theirs.close()
        ours.setblocking(False)
        identity = identify(pid, launch.node)
        ticks = identity.start_ticks if identity else 0
        member = f"{launch.node}/{launch.generation}/{index}/{pid}/{ticks}/{launch.identity.boot_id[:8]}/{nonce}"
        child = Child(index, pid, nonce, ticks, member, rq_name, ours)
        self.children[pid] = child
        return child

    def _log_file(self, index: int) -> Path:
        return self._launch.logs / f"worker-{index}.log"

    def _worker_mark(self, nonce: str) -> str:
        return f"{self._launch.mark}/{nonce}"

    def _become_worker(self, context: WorkerContext) -> int:
        spec, place = self._launch.spec, context.index - self._launch.indices.start
        bind_cpus(share(self._grant.cpus, place, int(spec.get("cpus_per_worker") or 0)))
        gpus = share(self._grant.gpus, place, int(spec.get("gpus_per_worker") or 0))
        if gpus:
            os.environ.update(gpu_environment(gpus))
        extend_path(spec)
        return Worker(context).run()

    def read(self, child: Child) -> None:
        """Take a worker's messages."""
        try:
            data = child.control.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if READY in data:
            child.ready = True
        if TOOK in data or self._took(child):
            self._note_job(child)
        if data:
            child.idle = data.endswith(IDLE)
        if child.idle and child.woken:
            child.fruitless += 1
            child.woken = False

    def _took(self, child: Child) -> bool:
        """Whether it has begun a job, or more, since the last look: it need not say so of each."""
        done, cursor = self._memory.jobs_done(child.index), self._memory.read(child.index)
        took = done != child.jobs_done or bool(cursor.execution)
        child.jobs_done = done
        return took

    def _note_job(self, child: Child) -> None:
        child.ran_a_job = True
        child.fruitless = 0
        child.woken = False
        self._backoff.pop(child.index, None)

    def idle(self) -> list[Child]:
        """Workers that wait for work and were not woken since; a stopped one would only keep the wake-up."""
        return [child for child in self.children.values() if child.idle and child.state == "alive"]

    @property
    def looking(self) -> bool:
        """Whether a worker was sent to look, or looks itself, and has not said what it found: a job may be its."""
        lingers = self._memory.somebody_lingers
        # One that cannot reach Redis says nothing for long: others shall try meanwhile.
        since = time.monotonic() - LONGEST_LOOK
        return lingers or any(
            child.woken and child.state == "alive" and child.woken_at > since for child in self.children.values()
        )

    def note_begun(self) -> None:
        """Look whether those that were sent to look have begun a job."""
        for child in self.children.values():
            if child.woken and self._took(child):
                self._note_job(child)

    def wake(self, child: Child) -> None:
        """Send an idle worker to look."""
        child.idle = False
        child.woken = True
        child.woken_at = time.monotonic()
        child.send(WAKE)

    def reap(self) -> Iterator[Death]:
        """Wait for those that died; take note of those that were stopped or continued."""
        for pid in list(self.children):
            options = os.WNOHANG | os.WUNTRACED | getattr(os, "WCONTINUED", 0)
            peak = 0
            try:
                found, status, usage = os.wait4(pid, options)
                peak = usage.ru_maxrss
            except ChildProcessError:
                found, status = pid, 0
            if not found:
                continue
            child = self.children[pid]
            if os.WIFSTOPPED(status):
                child.state = "stopped"
            elif hasattr(os, "WIFCONTINUED") and os.WIFCONTINUED(status):
                child.state = "alive"
            else:
                yield self._bury(child, End(status, peak, self._ran_out_of_memory()))

    def _ran_out_of_memory(self) -> bool:
        """Whether the kernel killed something of ours for want of memory since the last death."""
        before, self._oom_kills = self._oom_kills, oom_kills()
        return self._oom_kills > before

    def _bury(self, child: Child, end: End) -> Death:
        del self.children[child.pid]
        cursor = self._memory.read(child.index)
        self._memory.end_linger(child.index)
        # Nothing that a task of this worker started may outlive it (rulings 27).
        self._kill_leftovers(child)
        in_order = child.told_to_stop and not child.killed_for
        ends = self._memory.ends(child.index)
        clean = in_order and end.status == 0 and not cursor.execution and not ends
        death = Death(child, cursor, ends, reason_of(child, end), in_order, clean)
        if not child.told_to_stop:
            self._schedule_restart(child, death)
        return death

    def _kill_leftovers(self, child: Child) -> None:
        mark, log_file = self._worker_mark(child.nonce), os.path.realpath(self._log_file(child.index))
        kill_trail(Trail(mark, output=log_file, sessions=frozenset({child.pid})))

    def _schedule_restart(self, child: Child, death: Death) -> None:
        # It need not have come to say so that it ran one.
        ran = child.ran_a_job or bool(death.cursor.execution) or self._memory.jobs_done(child.index) > 0
        useful = ran or (child.ready and time.monotonic() - child.forked_at > USEFUL_LIFE)
        if useful:
            self._backoff.pop(child.index, None)
            self._restarts[child.index] = time.monotonic()
            return
        self._crashes.append(time.monotonic())
        self.last_crash = death.reason
        backoff = self._backoff.get(child.index, FIRST_BACKOFF)
        self._backoff[child.index] = min(backoff * 2, LONGEST_BACKOFF)
        self._restarts[child.index] = time.monotonic() + backoff

    def due_restarts(self) -> list[int]:
        """Indices of workers to be started again now."""
        now = time.monotonic()
        due = [index for index, moment in self._restarts.items() if moment <= now]
        for index in due:
            del self._restarts[index]
        return due

    def forget_restarts(self) -> None:
        """Nobody is started again: the end has begun."""
        self._restarts.clear()

    def kill_overdue(self) -> None:
        """Kill workers beyond their job's timeout and grace: they hang where no signal handler runs."""
        now = time.monotonic()
        for child in self.children.values():
            cursor = self._memory.read(child.index)
            if cursor.deadline and now > cursor.deadline and not child.killed_for:
                child.state = "hung"
                child.killed_for = f"{child.label} hung beyond its job's timeout and was killed"
                child.signal(signal.SIGKILL)

    def lasting(self, seconds: float) -> list[tuple[Child, Cursor]]:
        """Workers whose job runs for longer than this, if that was not seen before."""
        now, found = time.monotonic(), []
        for child in self.children.values():
            if child.idle or not child.registered:
                continue
            cursor = self._memory.read(child.index)
            lasts = cursor.execution and now - cursor.begun_at > seconds
            if lasts and self._memory.taken_batch(child.index) != cursor.batch:
                found.append((child, cursor))
        return found

    def quit_idle(self) -> None:
        """Ask all to go; those that run a job finish it first."""
        for child in self.children.values():
            child.told_to_stop = True
            child.send(QUIT)

    def signal_all(self, signum: int, *, reason: str = "") -> None:
        """Signal every worker; with a reason (what it did wrong) its death is our doing."""
        for child in self.children.values():
            child.told_to_stop = True
            if reason:
                child.killed_for = f"{child.label} {reason}"
            # A stopped process takes no other signal than KILL and CONT.
            if child.state == "stopped" and signum != signal.SIGKILL:
                child.signal(signal.SIGCONT)
            child.signal(signum)

    def endless_jobs(
        self, held: Callable[[str], tuple[str, str, str] | None]
    ) -> dict[str, tuple[str, str, str] | None]:
        """RQ name -> the endless job that the worker runs, for :meth:`Jobs.beat_workers`."""
        out = {}
        for child in self.children.values():
            cursor = self._memory.read(child.index)
            out[child.rq_name] = held(child.rq_name) if cursor.endless else None
        return out


def reason_of(child: Child, end: End) -> str:
    """Why a worker ended, for its job's record and for people."""
    return child.killed_for or f"{child.label} {how_it_ended(end)}"
