"""Forking workers: what a launcher knows of each, and what a child does before it becomes one.

The launcher forks while it has one thread; a child uses nothing that it inherited but the shared memory, its end of
the control socket and the parsed configuration (design, section 9; rulings 28).
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import random
import secrets
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NoReturn

from gutscore_rs.processes import die_with_parent
from gutscore_rs.settings import MARK
from gutscore_rs_workers.visible import retitle

EXIT_INTERNAL = 70  # EX_SOFTWARE of sysexits.h


@dataclass(slots=True)
class Child:
    """A worker as its launcher sees it."""

    index: int
    pid: int
    nonce: str
    start_ticks: int
    member: str
    rq_name: str
    control: socket.socket
    forked_at: float = field(default_factory=time.monotonic)
    started_at: float = field(default_factory=time.time)
    ready: bool = False
    registered: bool = False
    idle: bool = False
    woken: bool = False
    woken_at: float = 0.0
    fruitless: int = 0
    ran_a_job: bool = False
    jobs_done: int = 0
    state: str = "alive"
    told_to_stop: bool = False
    killed_for: str = ""

    @property
    def label(self) -> str:
        """The worker, for people."""
        return f"worker {self.index} (pid {self.pid} on {self.member.partition('/')[0]})"

    def send(self, message: bytes) -> None:
        """Tell the worker something; one that is gone is the reaper's business."""
        with contextlib.suppress(OSError):
            self.control.send(message)

    def signal(self, signum: int) -> None:
        """Send a signal; the pid is ours until it is waited for."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signum)


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended.

    Attributes:
        status: As ``os.wait4`` gave it.
        peak: Most memory that it had, in KiB (``ru_maxrss``); 0: not known.
        out_of_memory: Whether the kernel killed something in our control group for want of memory meanwhile.
    """

    status: int
    peak: int = 0
    out_of_memory: bool = False


def how_it_ended(end: End) -> str:
    """What a process that was waited for came to, for people. Out of memory: only where the kernel said so."""
    code = os.waitstatus_to_exitcode(end.status)
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    memory = f"it had had up to {end.peak / 1024:.0f} MiB" if end.peak else ""
    if -code == signal.SIGKILL:
        memory = "; ".join(filter(None, ["out of memory" if end.out_of_memory else "perhaps out of memory", memory]))
    return f"was killed by {name}" + (f"; {memory}" if memory else "")


def oom_kills() -> int:
    """Processes of our control group that the kernel has killed for want of memory so far; 0 where none counts."""
    try:
        group = Path("/proc/self/cgroup").read_text().strip().rpartition("::")[2]
        events = (Path("/sys/fs/cgroup") / group.lstrip("/") / "memory.events").read_text()
        return int(dict(line.split() for line in events.splitlines())["oom_kill"])
    except (OSError, ValueError, KeyError):
        return 0


def new_nonce() -> str:
    """Eight hex digits that tell two processes with one pid apart."""
    return secrets.token_hex(4)


@cache
def _freeze() -> None:
    """Objects shared before a fork stay shared: a collection in the child would touch, hence copy, their pages.

    Once only: what is garbage at that moment, and not yet collected, stays for ever.
    """
    gc.freeze()


def fork_process(
    run: Callable[[], int],
    *,
    keep: Sequence[int] = (),
    log_file: Path | None = None,
    mark: str | None = None,
    own_session: bool = True,
    title: str = "",
) -> int:
    """Fork a child that runs ``run`` and exits with what it returns.

    Args:
        run: The child's work.
        keep: Inherited descriptors that it needs.
        log_file: Where its stdout and stderr go; None: the parent's.
        mark: Its mark in the environment, inherited by all that it starts.
        own_session: Whether it leads a session, so that what it starts can be found.
        title: What ``ps`` shows of it; empty: its parent's command line.

    Returns:
        The child's pid, in the parent only.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    _freeze()
    parent = os.getpid()

    def live() -> int:
        _settle(parent, keep, log_file, mark, own_session=own_session)
        if title:
            retitle(title)
        return run()

    pid = os.fork()
    if not pid:
        run_and_exit(live)
    return pid


def run_and_exit(run: Callable[[], int]) -> NoReturn:
    """In a forked process: run, then end with what it returned, whatever it raises."""
    code = EXIT_INTERNAL
    try:
        code = run()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else EXIT_INTERNAL
    except BaseException:  # noqa: BLE001 - nothing may escape into the parent's code
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _settle(parent: int, keep: Sequence[int], log_file: Path | None, mark: str | None, *, own_session: bool) -> None:
    if own_session:
        os.setsid()
    die_with_parent(parent)
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR2, signal.SIGHUP, signal.SIGALRM):
        signal.signal(signum, signal.SIG_DFL)
    # USR1: what Slurm is told to send to a step reaches every process of it, tasks and what they started included
    # (22.05: slurmstepd signals the container). It is for the launcher; what tasks start inherits that it is ignored.
    for signum in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(signum, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    _close_inherited(keep)
    if log_file is not None:
        _redirect(log_file)
    if mark is not None:
        os.environ[MARK] = mark
    _reseed()


def _close_inherited(keep: Sequence[int]) -> None:
    """Close every descriptor but the standard ones and ``keep``: no socket of the parent may be used here."""
    low = 3
    for descriptor in sorted(set(keep)):
        os.closerange(low, descriptor)
        low = descriptor + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX") if sys.platform != "linux" else 65536)


def _redirect(log_file: Path) -> None:
    descriptor = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _reseed() -> None:
    """Give the child random numbers of its own.

    Python reseeds ``random`` after a fork, numpy's legacy generator is copied as it stands: all workers would draw
    the same trajectories.
    """
    random.seed()
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(int.from_bytes(os.urandom(4), "little"))
