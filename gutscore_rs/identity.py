"""Who a process is, so that a reused pid or another boot is never mistaken for it.

A pid alone names nothing: it is reused, it means something else in another pid namespace (a container), and it
starts anew with every boot. Host, boot id, pid namespace, pid and start time together name one process for ever.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gutscore_rs.errors import SerializationError, StateFolderError
from gutscore_rs.paths import locked, write_private
from gutscore_rs.settings import Settings

if sys.platform != "linux":
    import psutil

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
# Seconds that another process may take to write one small file.
NAME_PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process, for ever.

    Attributes:
        host: Name of its host in Redis.
        boot_id: Changes with every boot of the host.
        pid_namespace: Inode of its pid namespace; 0 where there is none (macOS).
        pid: Its pid.
        start_ticks: When it started: clock ticks since boot on Linux, hundredths of a second elsewhere.
    """

    host: str
    boot_id: str
    pid_namespace: int
    pid: int
    start_ticks: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ProcessIdentity:
        """The inverse of :meth:`to_dict`.

        Raises:
            SerializationError: Something is missing or of another type.
        """
        try:
            identity = cls(**{name: data[name] for name in cls.__slots__})
        except (KeyError, TypeError) as error:
            raise SerializationError(f"This is no identity of a process: {error!r}.") from error
        texts = isinstance(identity.host, str) and isinstance(identity.boot_id, str)
        numbers = (identity.pid_namespace, identity.pid, identity.start_ticks)
        if not texts or not all(type(number) is int for number in numbers) or identity.pid <= 0:
            raise SerializationError(f"This is no identity of a process: {identity!r}.")
        return identity


def this_host(settings: Settings, state_root: Path) -> str:
    """This host's name in Redis.

    What the settings say (on a Slurm node: the node's name), else a name kept in the state folder: host names change
    on laptops and in containers. The state folder may be on a home that many hosts share, so the name is kept per
    machine id. Machines installed from one image may have one machine id (machine-id(5) forbids it, clusters do it),
    containers of one host may too: the name is ours when this boot or this host name wrote it, else it is another
    machine's, and ours is kept per machine id and host name.

    Raises:
        StateFolderError: The name cannot be kept.
    """
    if settings.host:
        return _UNSAFE.sub("-", settings.host)
    host_name, machine = socket.gethostname(), _machine_id()
    us = {"host_name": host_name, "life": f"{boot_id()}/{pid_namespace()}"}
    folder = state_root / "hosts"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return (
            _kept_name(folder / _digest(machine), us)
            or _kept_name(folder / _digest(f"{machine}/{host_name}"), {"host_name": host_name})
            or _UNSAFE.sub("-", host_name)
        )
    except (OSError, StateFolderError) as error:
        raise StateFolderError(
            f"The name of this host cannot be kept in {folder}: {str(error).rstrip('.')}. Set GUTSCORE_RS_HOST, or "
            "GUTSCORE_RS_STATE_DIR."
        ) from error


def _kept_name(file: Path, us: dict[str, str]) -> str | None:
    """The name that is kept for us, a new one if none is; None when it is kept for another machine."""
    entry = _read_entry(file)
    if entry is None or us.items() - entry.items():
        # Two processes that start together must read the same name.
        with locked(file.parent / ".lock", timeout=NAME_PATIENCE):
            entry = _read_entry(file)
            if entry is None:
                short = _UNSAFE.sub("-", us["host_name"].split(".")[0]) or "host"
                entry = {"name": f"{short}-{secrets.token_hex(2)}"}
            elif not us.items() & entry.items():
                return None
            write_private(file, json.dumps(entry | us).encode())
    return entry["name"]


def _read_entry(file: Path) -> dict[str, str] | None:
    try:
        data = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not all(isinstance(value, str) for value in data.values()):
        return None
    return data if data.get("name") and not _UNSAFE.search(data["name"]) else None


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@cache
def _machine_id() -> str:
    """Names the machine for ever (machine-id(5); macOS: its platform UUID); the host name where there is nothing."""
    for name in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if text := Path(name).read_text().strip():
                return text
    if sys.platform == "darwin":
        found = re.search(r'"IOPlatformUUID" = "([^"]+)"', _output("ioreg", "-rd1", "-c", "IOPlatformExpertDevice"))
        if found:
            return found[1]
    return socket.gethostname()


@cache
def boot_id() -> str:
    """Names this boot of the host (random(4): boot_id).

    macOS: the boot session's UUID. Not kern.boottime, if that can be helped: it moves whenever the clock is set.
    """
    if sys.platform == "linux":
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return _digest(_output("sysctl", "-n", "kern.bootsessionuuid") or _output("sysctl", "-n", "kern.boottime"))


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def pid_namespace() -> int:
    """The pid namespace that this process's pids are of (pid_namespaces(7)); 0 where there is none."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def process_stat(pid: int) -> tuple[str, int, int] | None:
    """State letter, session id and start time of a process, None when there is none (proc_pid_stat(5)).

    Z stands for a process that has ended altogether: files and sockets closed, nothing left but its exit code.
    """
    if sys.platform != "linux":
        try:
            process = psutil.Process(pid)
            state = "Z" if process.status() == psutil.STATUS_ZOMBIE else "R"
            return state, os.getsid(pid), int(process.create_time() * 100)
        except (psutil.Error, OSError):
            return None
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The command's name, in parentheses, may itself hold parentheses and spaces.
    fields = text[text.rindex(b")") + 2 :].split()
    state, threads = fields[0].decode(), int(fields[17])
    # The main thread may end before the others: until the last one is gone, they run on or hold the files open.
    if state == "Z" and threads > 1:
        state = "R"
    return state, int(fields[3]), int(fields[19])


def identify(pid: int, host: str) -> ProcessIdentity | None:
    """The process that has this pid now; None when there is none, or only a zombie."""
    stat = process_stat(pid)
    if stat is None or stat[0] in "ZX":
        return None
    return ProcessIdentity(host, boot_id(), pid_namespace(), pid, stat[2])


def this_process(host: str) -> ProcessIdentity:
    """This very process."""
    identity = identify(os.getpid(), host)
    assert identity is not None  # noqa: S101 - we are alive
    return identity


def is_here(identity: ProcessIdentity, host: str) -> bool:
    """Whether this process can judge the other: same host, and its pid is of our namespace or of an earlier boot."""
    if identity.host != host:
        return False
    return identity.boot_id != boot_id() or identity.pid_namespace == pid_namespace()


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether a process of this host lives: same boot, same start time, no zombie."""
    if identity.boot_id != boot_id():
        return False
    stat = process_stat(identity.pid)
    return stat is not None and stat[0] not in "ZX" and stat[2] == identity.start_ticks
