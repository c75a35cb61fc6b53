"""A case on several hosts: one server with a password, provisioners started by the command line, no shared home."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from support.cases import LiveCase
from support.hosts import Host, Network
from support.servers import Server
from support.waiting import wait_until

from gutscore_rs.access import write_access
from gutscore_rs.paths import StateFolder
from gutscore_rs.settings import Settings

PORT, PASSWORD = 6379, "not-a-secret"
_COMMAND = [sys.executable, "-P", "-m", "gutscore_rs"]


@dataclass
class NetworkServer(Server):
    """A server that hosts reach over their network, and the test by a unix socket: it sees what no cut hides."""

    network: Network | None = None

    @property
    def url(self) -> str:
        return f"unix://:{PASSWORD}@{self.socket}"

    def command(self) -> list[str]:
        assert self.network is not None
        switch, ours = self.network.switch, ["--port", str(PORT), "--requirepass", PASSWORD]
        return switch.command([*super().command(), *ours, "--bind", switch.address])

    def client(self) -> Any:
        client = super().client()
        client.connection_pool.connection_kwargs["password"] = PASSWORD
        return client


@dataclass
class HostCase(LiveCase):
    """A case whose hosts are namespaces. The test itself is a further host, which has no provisioner."""

    network: Network | None = None
    states: dict[str, Path] = field(default_factory=dict)
    serving: dict[str, int] = field(default_factory=dict)

    def add_host(self, name: str, *, state: Path | None = None, serve: bool = True) -> Host:
        """A new host with a copy of the access file in a state folder of its own, or in one that it shares."""
        assert self.network is not None
        host = self.network.add(name)
        self.states[name] = state or host.folder / "state"
        folder = StateFolder.open(Settings(state_dir=self.states[name])).case(self.name)
        folder.create()
        access = replace(self.access, url=f"redis://{self.network.switch.address}:{PORT}/0")
        write_access(folder.access_file, access)
        if serve:
            self.serve(host)
        return host

    def env_of(self, host: Host) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name != "SLURMD_NODENAME"}
        return inherited | {
            "GUTSCORE_RS_STATE_DIR": str(self.states[host.name]),
            "GUTSCORE_RS_RUNTIME_DIR": str(host.folder),
            "GUTSCORE_RS_HOST": host.name,
        }

    def serve(self, host: Host, *, wait: bool = True) -> int:
        """Start a provisioner there as people do; its pid, outside."""
        log = host.folder / "provisioner.log"
        pid = host.start([*_COMMAND, "provisioner", self.name], env=self.env_of(host), log=log)
        self.serving[host.name] = pid
        if wait:
            wait_until(
                lambda: any(
                    host.pids().get(record.pid) == pid for record in self.store.provisioners.serving(host.name)
                ),
                20,
                what=f"the provisioner serves {host.name}",
            )
        return pid

    def kill_provisioner(self, host: Host) -> None:
        """kill -9 of the provisioner that runs there, and of nothing else."""
        pid = self.serving[host.name]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pid not in host.pids().values(), 5, what="the provisioner is gone")

    def cli(self, host: Host, *arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run the command line on a host."""
        return subprocess.run(
            host.command([*_COMMAND, *arguments]),
            env=self.env_of(host),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def json(self, host: Host, *arguments: str) -> Any:
        """What a command prints on a host with ``--json``."""
        done = self.cli(host, *arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def request_on(self, host: Host, wgroup_id: int = 0, **options: Any) -> None:
        """Request a set there, from here, and wait for its workers."""
        self.request(wgroup_id, **{"host": host.name, "daemonize": True} | options)

    def log_of(self, host: Host) -> str:
        """What the provisioner there said."""
        file = host.folder / "provisioner.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def close(self) -> None:
        """End everything, on every host."""
        assert self.network is not None
        self.store.close()
        self.network.close()


def open_case(folder: Path) -> HostCase:
    """A network with a server and no host yet."""
    network = Network(folder / "net")
    server = NetworkServer("valkey", network=network, append_only=False)
    try:
        server.start()
        return HostCase(server, folder / "observer", host="the-test", network=network)
    except BaseException:
        close_case(network, server)
        raise


def close_case(network: Network, server: Server) -> None:
    """The end of :func:`open_case`."""
    network.close()
    server.stop()
