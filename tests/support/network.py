"""Hosts of our own on one machine: network namespaces with addresses, host names and pids of their own.

Each host is a process that is init of its own pid, network, host name and mount namespaces (unshare(1)); what runs there
is entered by nsenter(1). All are on one switch in a namespace of its own; nothing is routed anywhere else. A cut is
silent: packets are lost, nobody is told. The test itself stands outside and reaches the server by its unix socket.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.waiting import wait_until

# Only within the namespaces that are made here.
SUBNET = "10.99.0"
PREFIX = "gs-test-"


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def require_namespaces() -> None:
    """Skip the test where there can be no hosts of our own; with CI set it fails."""
    tools = all(shutil.which(name) for name in ("ip", "unshare", "nsenter"))
    if sys.platform == "linux" and os.geteuid() == 0 and tools:
        return
    message = "hosts of our own need Linux, root, iproute2 and util-linux"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def _remove_leftovers() -> None:
    """Switches of test runs that were killed; their hosts died with them."""
    for name in subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=False).stdout.split():
        pid = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and pid.isdigit() and not Path(f"/proc/{pid}").exists():
            _run("ip", "netns", "del", name)


@dataclass
class Host:
    """One host.

    Attributes:
        init: Its init, as the test sees it; its end is the end of all that runs there.
    """

    network: Network
    name: str
    number: int
    init: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        return f"{SUBNET}.{self.number}"

    def command(self, *words: str) -> list[str]:
        """A command line that runs there."""
        enter = ["nsenter", f"--target={self._inside}", "--net", "--uts", "--pid", "--mount"]
        return [*enter, *words]

    @property
    def _inside(self) -> int:
        """The init itself; `unshare --fork` is its parent."""
        children = Path(f"/proc/{self.init.pid}/task/{self.init.pid}/children").read_text().split()
        return int(children[0])

    def popen(self, words: Sequence[str], env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
        """Start a process there."""
        with log.open("ab") as stream:
            return subprocess.Popen(
                self.command(*words), env=dict(env), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream
            )

    def run(
        self, words: Sequence[str], env: Mapping[str, str], timeout: float = 30.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there to its end."""
        return subprocess.run(
            self.command(*words), env=dict(env), capture_output=True, text=True, timeout=timeout, check=False
        )

    def cut(self) -> None:
        """Pull its plug from the switch: what is sent is lost, in both directions, and nobody is told."""
        _run("ip", "-n", self.network.switch, "link", "set", f"p{self.number}", "down")

    def heal(self) -> None:
        """Put the plug back."""
        _run("ip", "-n", self.network.switch, "link", "set", f"p{self.number}", "up")

    def power_off(self) -> None:
        """Everything there ends at once, without a word to anybody."""
        self.cut()
        if self.init.poll() is None:
            os.kill(self._inside, signal.SIGKILL)
            self.init.wait(10)


@dataclass
class Network:
    """A switch and its hosts; :meth:`close` removes all of it."""

    hosts: list[Host] = field(default_factory=list)
    switch: str = field(default_factory=lambda: f"{PREFIX}{os.getpid()}")

    def __post_init__(self) -> None:
        _remove_leftovers()
        _run("ip", "netns", "add", self.switch)
        _run("ip", "-n", self.switch, "link", "add", "sw", "type", "bridge")
        _run("ip", "-n", self.switch, "link", "set", "sw", "up")

    def add(self, name: str) -> Host:
        """A new host, plugged in."""
        number = len(self.hosts) + 1
        # Each start of a host is a boot of its own (random(4): boot_id).
        boot = "cat /proc/sys/kernel/random/uuid >$0; mount --bind $0 /proc/sys/kernel/random/boot_id; rm $0"
        script = f"hostname {name}; ip link set lo up; {boot}; exec sleep infinity"
        scratch = f"{tempfile.gettempdir()}/{self.switch}-{number}"
        unshare = ["unshare", "--net", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
        init = subprocess.Popen([*unshare, "sh", "-c", script, scratch], stderr=subprocess.DEVNULL)
        host = Host(self, name, number, init)
        self.hosts.append(host)
        wait_until(lambda: self._is_up(host), 10, what=f"host {name} is up")
        inside, plug = str(host._inside), f"p{number}"
        _run("ip", "-n", self.switch, "link", "add", plug, "type", "veth", "peer", "name", "eth0", "netns", inside)
        _run("ip", "-n", self.switch, "link", "set", plug, "master", "sw", "up")
        _run(*host.command("ip", "address", "add", f"{host.address}/24", "dev", "eth0"))
        _run(*host.command("ip", "link", "set", "eth0", "up"))
        return host

    @staticmethod
    def _is_up(host: Host) -> bool:
        children = Path(f"/proc/{host.init.pid}/task/{host.init.pid}/children").read_text().split()
        return bool(children) and b"sleep" in Path(f"/proc/{children[0]}/cmdline").read_bytes()

    def close(self) -> None:
        """End every host, and the switch."""
        for host in self.hosts:
            if host.init.poll() is None:
                host.power_off()
        _run("ip", "netns", "del", self.switch)
