"""Starting, signalling and ending processes, by identity and never by a bare pid or name."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gutscore_rs.identity import ProcessIdentity, is_alive, process_stat
from gutscore_rs.settings import MARK

if sys.platform != "linux":
    import psutil

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
if sys.platform == "linux":
    # Looked up now: it is called after forks, when a thread that is gone may hold the linker's lock.
    _LIBC_PRCTL = ctypes.CDLL(None).prctl
# The last two: the pid is now that of a thread of another process, which kernels tell in different ways.
_NOBODY = {errno.ESRCH, errno.ENOENT, errno.EINVAL}
_MOST_LISTINGS = 1000
# The longest that a process is waited for whose environment is not there yet, because it executes another program.
EXEC_SECONDS = 0.5


def start_detached(argv: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path, umask: int = -1) -> int:
    """Start a process that outlives this one: own session, no terminal, output appended to ``log`` (mode 0600).

    Args:
        argv: Program and arguments.
        log: Where its output goes.
        env: All of its environment.
        cwd: Its current folder.
        umask: Its umask(2); -1: ours.

    Returns:
        Its pid.

    Raises:
        OSError: It cannot be started, or the log cannot be written.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
            close_fds=True,
            umask=umask,
        )
    finally:
        os.close(descriptor)
    # It is watched by identity; Popen would warn about a child that nobody waited for.
    process.returncode = 0
    return process.pid


def send_signal(identity: ProcessIdentity, signum: int) -> bool:
    """Signal a process; False when it is gone. A reused pid is never hit where there are pidfds (pidfd_open(2))."""
    try:
        if not hasattr(os, "pidfd_open"):
            if not is_alive(identity):
                return False
            os.kill(identity.pid, signum)
            return True
        descriptor = os.pidfd_open(identity.pid)
        try:
            # Judged after opening: the descriptor now stands for whoever has the pid.
            if not is_alive(identity):
                return False
            signal.pidfd_send_signal(descriptor, signum)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in _NOBODY:
            return False
        raise
    return True


def reap(pid: int) -> None:
    """Take a zombie of our own off the process table."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def wait_gone(identities: Iterable[ProcessIdentity], timeout: float) -> list[ProcessIdentity]:
    """Wait for processes to end; those that did not. Zombies have ended."""
    ends, left = time.monotonic() + timeout, list(identities)
    while True:
        left = [identity for identity in left if is_alive(identity)]
        rest = ends - time.monotonic()
        if not left or rest <= 0:
            return left
        _wait_for_one(left[0], min(rest, 0.5))


def _wait_for_one(identity: ProcessIdentity, seconds: float) -> None:
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            descriptor = os.pidfd_open(identity.pid)
            try:
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                poll.poll(seconds * 1000)
            finally:
                os.close(descriptor)
    else:
        time.sleep(min(seconds, 0.02))


def stop(identity: ProcessIdentity, *, grace: float, kill_wait: float = 5.0) -> bool:
    """TERM, wait ``grace`` seconds, KILL, wait: whether it is gone."""
    if send_signal(identity, signal.SIGTERM):
        if (stat := process_stat(identity.pid)) and stat[0] in "Tt":
            # A stopped process takes no TERM until it goes on.
            send_signal(identity, signal.SIGCONT)
        if wait_gone([identity], grace):
            send_signal(identity, signal.SIGKILL)
            wait_gone([identity], kill_wait)
    if (stat := process_stat(identity.pid)) and stat[2] == identity.start_ticks:
        reap(identity.pid)
    return not is_alive(identity)


def _pids() -> list[int]:
    if sys.platform != "linux":
        return list(psutil.pids())
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _mark_of(pid: int) -> str | None:
    """The mark that a process was started with; "" when it has none, None when its environment cannot be seen (now)."""
    if sys.platform != "linux":
        try:
            return psutil.Process(pid).environ().get(MARK, "")
        except (psutil.Error, OSError):
            return ""
    try:
        # surrogateescape: a foreign environment may hold any bytes.
        block = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return ""
    start = f"{MARK}=".encode()
    found = next((entry for entry in block.split(b"\0") if entry.startswith(start)), b"")
    # Empty in a kernel thread, a zombie, and for a moment in a process that executes another program.
    return os.fsdecode(found[len(start) :]) if block else None


def _is_executing(pid: int) -> bool:
    """Whether a process without an environment has a program all the same; kernel threads and zombies have none."""
    try:
        return bool(Path(f"/proc/{pid}/exe").readlink())
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Trail:
    """By what a process is known for one of ours, whatever it did since it was started.

    Attributes:
        mark: The mark that it was started with; empty: nobody's.
        prefix: Whether marks that begin so fit too.
        output: Begin of a path: who has no mark (it cleared its environment) and writes its stdout or stderr there.
        sessions: Who has no mark and is in one of these sessions.
    """

    mark: str
    prefix: bool = False
    output: str = ""
    sessions: frozenset[int] = frozenset()

    def fits(self, pid: int, mark: str | None) -> bool:
        """Whether a process with this mark (see ``_mark_of``) is meant, and lives."""
        stat = process_stat(pid)
        if stat is None or stat[0] in "ZX":
            return False
        if mark:
            return mark.startswith(self.mark) if self.prefix else mark == self.mark
        found = stat[1] in self.sessions or (bool(self.output) and _writes_into(pid, self.output))
        # Of a program that runs as another user (setuid) neither is the mark seen, nor could it be ended.
        return found and _may_signal(pid)


def _may_signal(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _writes_into(pid: int, path: str) -> bool:
    """Whether stdout or stderr of a process is a file whose path begins so; unknown (False) outside Linux."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if str(Path(f"/proc/{pid}/fd/{descriptor}").readlink()).startswith(path):
                return True
    return False


def _find(trail: Trail, *, stop_them: bool = False) -> list[int]:
    """Look until a listing shows nobody new: one look misses what forks and exits faster than /proc is read."""
    found: list[int] = []
    if not trail.mark:
        # As a prefix it would be that of every case of this user.
        return found
    judged, patience = {os.getpid()}, time.monotonic() + EXEC_SECONDS
    for _ in range(_MOST_LISTINGS):
        fresh, veiled = [pid for pid in _pids() if pid not in judged], 0
        for pid in fresh:
            mark = _mark_of(pid)
            if mark is None and _is_executing(pid) and time.monotonic() < patience:
                veiled += 1
                continue
            judged.add(pid)
            if trail.fits(pid, mark):
                found.append(pid)
                if stop_them:
                    _kill(pid, signal.SIGSTOP)
        if not fresh:
            break
        if veiled == len(fresh):
            time.sleep(0.001)
    return found


def _kill(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)


def marked_processes(value: str, *, prefix: bool = False) -> list[int]:
    """Living processes, other than this one, that were started with the mark (or one that starts with it)."""
    return _find(Trail(value, prefix))


def kill_marked(value: str, *, prefix: bool = False, timeout: float = 5.0) -> list[int]:
    """Kill every process with the mark, whatever session it went to; those that survive."""
    return kill_trail(Trail(value, prefix), timeout=timeout)


def kill_trail(trail: Trail, *, timeout: float = 5.0) -> list[int]:
    """Kill every process that is known by a trail; those that survive.

    Each is stopped as soon as it is seen and all are killed after that: a process that forks faster than it is
    found must lose.
    """
    return _kill_all(lambda: _find(trail, stop_them=True), timeout)


def kill_children(timeout: float = 5.0) -> list[int]:
    """Kill every child of this process, then theirs, which a subreaper inherits; those that survive."""
    return _kill_all(_children, timeout)


def _kill_all(find: Callable[[], list[int]], timeout: float) -> list[int]:
    """Kill who is found until nobody is; those that survive. All are stopped before the first one is killed."""
    ends = time.monotonic() + timeout
    while (found := find()) and time.monotonic() < ends:
        for signum in (signal.SIGSTOP, signal.SIGKILL):
            for pid in found:
                _kill(pid, signum)
        for pid in found:
            reap(pid)
        time.sleep(0.005)
    return found


def _children() -> list[int]:
    if sys.platform != "linux":
        return [child.pid for child in psutil.Process().children()]
    me = os.getpid()
    return [pid for pid in _pids() if _parent_of(pid) == me]


def _parent_of(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(text[text.rindex(b")") + 2 :].split()[1])


def _prctl(option: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    return bool(_LIBC_PRCTL(option, value, 0, 0, 0) == 0)


def become_subreaper() -> bool:
    """Inherit orphaned descendants instead of init (prctl(2)); False where that does not exist (macOS)."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(expected_parent: int, signum: int = signal.SIGKILL) -> bool:
    """Be killed when the parent dies (prctl(2)); False where that does not exist (macOS).

    The parent may have died before the call: then this process ends here.
    """
    done = _prctl(_PR_SET_PDEATHSIG, int(signum))
    if os.getppid() != expected_parent:
        os._exit(1)
    return done
