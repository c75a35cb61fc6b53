"""Hosts for tests: each is a set of Linux namespaces with its own network, host name, pids, boot id and machine id.

A network is a bridge in a network namespace of its own; hosts hang on it by a pair of virtual interfaces. Nothing has a
name outside these namespaces and nothing is in the machine's own network: when the first process of a host ends, all of
it is gone, so neither a failed test nor one that was killed leaves anything behind. File systems are shared, as on a
cluster; what a host keeps for itself is in a folder of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from support.waiting import wait_until

Cut = Literal["drop", "link"]

_INIT = Path(__file__).with_name("host_init.py")
_PREFIX = "10.98.0"
_UNSHARE = ("unshare", "--net", "--uts", "--ipc", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_BOOT_ID, _MACHINE_ID = "/proc/sys/kernel/random/boot_id", "/etc/machine-id"


def need_namespaces() -> None:
    """Skip a test where there can be no such hosts; in CI fail it."""
    why = ""
    if sys.platform != "linux":
        why = "namespaces are Linux's"
    elif missing := [name for name in ("ip", "unshare", "nsenter") if shutil.which(name) is None]:
        why = f"{', '.join(missing)} is not installed"
    elif subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False).returncode:
        why = "namespaces cannot be made (no root?)"
    if why:
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)


def _children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _mac(number: int) -> str:
    return f"02:00:00:00:62:{number:02x}"


@dataclass
class Host:
    """One host.

    Attributes:
        name: Its host name.
        number: Last part of its address.
        folder: What it keeps, across boots.
        boot_id: Of the present boot.
    """

    name: str
    number: int
    folder: Path
    boot_id: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _power: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"{_PREFIX}.{self.number}"

    @property
    def init(self) -> int:
        """Pid of its first process, outside."""
        assert self._power is not None, f"{self.name} is off"
        return _children(self._power.pid)[0]

    @property
    def pid_namespace(self) -> int:
        return os.stat(f"/proc/{self.init}/ns/pid").st_ino

    def boot(self) -> None:
        """Start it, without a network."""
        self.folder.mkdir(exist_ok=True)
        self._power = subprocess.Popen(
            [*_UNSHARE, sys.executable, "-I", "-S", str(_INIT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._power.stdout is not None
        assert self._power.stdout.readline() == b"up\n", f"{self.name} does not start"
        self.boot_id = str(uuid.uuid4())
        (self.folder / "boot_id").write_text(f"{self.boot_id}\n")
        machine = self.folder / "machine-id"
        if not machine.exists():
            machine.write_text(f"{uuid.uuid4().hex}\n")
        self.sh(
            f"hostname {self.name}; ip link set lo up; mount --bind {self.folder}/boot_id {_BOOT_ID};"
            f"if [ -e {_MACHINE_ID} ]; then mount --bind {machine} {_MACHINE_ID}; fi"
        )

    def command(self, argv: Sequence[str]) -> list[str]:
        """A command line that runs a program on this host."""
        enter = ["nsenter", f"--target={self.init}", "--net", "--uts", "--ipc", "--mount", "--pid", "--"]
        # Whoever enters a mount namespace is in its root.
        return [*enter, "env", f"--chdir={self.folder}", *argv]

    def sh(self, script: str) -> str:
        """Run a shell script here; its output."""
        done = subprocess.run(self.command(["sh", "-ec", script]), capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, f"{self.name}: {script}: {done.stderr}"
        return done.stdout

    def start(self, argv: Sequence[str], *, env: dict[str, str], log: Path) -> int:
        """Start a program here; its pid, outside."""
        with log.open("ab") as stream:
            process = subprocess.Popen(
                self.command(argv), env=env, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
            )
        self.processes.append(process)
        return wait_until(lambda: _children(process.pid), 10, what=f"{argv} runs on {self.name}")[0]

    def pids(self) -> dict[int, int]:
        """Every process here: its pid here and its pid outside."""
        namespace, found = self.pid_namespace, {}
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}/ns/pid").st_ino == namespace:
                    text = Path(f"/proc/{name}/status").read_text()
                    numbers = next(line for line in text.splitlines() if line.startswith("NSpid:")).split()
                    found[int(numbers[-1])] = int(name)
        return found

    def kill(self, pid: int, signum: int = signal.SIGKILL) -> None:
        """Signal a process, named by its pid here."""
        os.kill(self.pids()[pid], signum)

    def power_off(self) -> None:
        """Kill everything here at once. Who shall not see the connections close cuts the host off before."""
        if self._power is None:
            return
        self._power.kill()
        self._power.wait()
        for stream in (self._power.stdin, self._power.stdout):
            assert stream is not None
            stream.close()
        self._power = None
        for process in self.processes:
            process.wait(10)
        self.processes.clear()


class Network:
    """A bridge and its hosts; a server is reached at the bridge's own address.

    Args:
        folder: Where hosts keep what they keep.
    """

    def __init__(self, folder: Path) -> None:
        need_namespaces()
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self.hosts: dict[str, Host] = {}
        self.switch = Host("switch", 1, folder / "switch")
        self.switch.boot()
        self.switch.sh(
            f"ip link add br0 address {_mac(1)} type bridge; ip addr add {self.switch.address}/24 dev br0;"
            "ip link set br0 up"
        )

    def add(self, name: str) -> Host:
        """A new host, up and on the network."""
        host = Host(name, len(self.hosts) + 2, self._folder / name)
        self.hosts[name] = host
        self.boot(host)
        return host

    def boot(self, host: Host) -> None:
        """Start a host that is off, with another boot id, and plug it in."""
        host.boot()
        port, mac = _port(host), _mac(host.number)
        pair = f"eth0 address {mac} netns {host.init} type veth peer name {port} netns {self.switch.init}"
        subprocess.run(["ip", "link", "add", *pair.split()], check=True)
        # Neighbours are known for ever: else a cut would be told by ARP after some seconds, as by no real network that
        # has a router in between.
        host.sh(
            f"ip addr add {host.address}/24 dev eth0; ip link set eth0 up;"
            f"ip neigh replace {self.switch.address} lladdr {_mac(1)} dev eth0 nud permanent"
        )
        self.switch.sh(
            f"ip link set {port} master br0 up; ip neigh replace {host.address} lladdr {mac} dev br0 nud permanent"
        )

    def cut(self, *hosts: Host, how: Cut = "drop") -> None:
        """From now on nothing gets through, and nobody is told: ``drop`` packets, or pull the plug (``link``)."""
        self.switch.sh(";".join(f"ip link set {_port(host)} {_CUT[how]}" for host in hosts))

    def heal(self, *hosts: Host) -> None:
        """Undo a cut."""
        self.switch.sh(";".join(f"ip link set {_port(host)} master br0 up" for host in hosts))

    def power_off(self, host: Host) -> None:
        """End everything on a host, without a word to anybody."""
        self.cut(host)
        host.power_off()

    def close(self) -> None:
        """End everything."""
        for host in [*self.hosts.values(), self.switch]:
            host.power_off()


def _port(host: Host) -> str:
    return f"h{host.number}"


_CUT: dict[Cut, str] = {"drop": "nomaster", "link": "down"}
