"""A case on several hosts of our own: one Redis with a password on one of them, a provisioner on each of the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import redis
from rq import Queue
from support.network import Host, Network
from support.servers import program
from support.waiting import wait_until

from gutscore_rs.access import Access, write_access
from gutscore_rs.entrypoints import provisioner_command
from gutscore_rs.operations.client import OperationsClient
from gutscore_rs.paths import StateFolder
from gutscore_rs.settings import Settings
from gutscore_rs.store import Store, task_queue

SUPPORT = Path(__file__).parent.parent
PORT, PASSWORD = 6379, "not-for-others"


@dataclass
class HostedCase:
    """The case ``test`` on hosts ``node-a``, ``node-b``, ...; the test itself reaches Redis by its unix socket."""

    folder: Path
    nodes: Sequence[str] = ("node-a", "node-b")
    shared_home: bool = False
    network: Network = field(default_factory=Network, repr=False)
    hosts: dict[str, Host] = field(default_factory=dict)
    provisioners: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            self._socket_folder = Path(tempfile.mkdtemp(prefix="gs-net-"))
            self._start_server(self.network.add("server"))
            self.access = Access.new("test", url=f"redis://{self.hosts['server'].address}:{PORT}", password=PASSWORD)
            self.store = Store.open(replace(self.access, url=None, socket=str(self._socket)), name="test")
            self.operations = OperationsClient(self.store, self.access, "node-a")
            for name in self.nodes:
                self.hosts[name] = self.network.add(name)
                state = StateFolder.open(Settings(state_dir=self.state(name), runtime_dir=None))
                state.case("test").create()
                write_access(state.case("test").access_file, self.access)
                self.start_provisioner(name)
        except BaseException:
            self.network.close()
            raise

    @property
    def _socket(self) -> Path:
        return self._socket_folder / "s.sock"

    def _start_server(self, host: Host) -> None:
        self.hosts["server"] = host
        where = ["--bind", host.address, "--port", str(PORT), "--unixsocket", str(self._socket)]
        safety = ["--requirepass", PASSWORD, "--dir", str(self._socket_folder), "--appendonly", "yes", "--save", ""]
        host.popen([program("valkey"), *where, *safety], os.environ, self.folder / "server.log")
        client = redis.Redis(unix_socket_path=str(self._socket), password=PASSWORD)
        wait_until(lambda: self._answers(client), 10, what="the server answers")
        client.close()

    @staticmethod
    def _answers(client: redis.Redis) -> bool:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False

    def state(self, node: str) -> Path:
        """The state folder of a host."""
        return self.folder / ("home" if self.shared_home else node)

    def env(self, node: str) -> dict[str, str]:
        return dict(os.environ) | {"GUTSCORE_RS_STATE_DIR": str(self.state(node)), "GUTSCORE_RS_HOST": node}

    def start_provisioner(self, node: str) -> None:
        """Start one and wait until it serves its host."""
        access = self.state(node) / "cases" / "test" / "access.json"
        known = {record.member for record in self.store.provisioners.serving(node)}
        self.provisioners[node] = self.hosts[node].popen(
            provisioner_command(access), self.env(node), self.folder / f"{node}.log"
        )
        wait_until(
            lambda: {record.member for record in self.store.provisioners.serving(node)} - known,
            20,
            what=f"a provisioner serves {node}",
        )

    def kill_provisioner(self, node: str) -> None:
        """kill -9, by its pid there."""
        # One that was killed before is listed until its lease ends.
        record = max(self.store.provisioners.serving(node), key=lambda one: one.started_at)
        done = self.hosts[node].run(["sh", "-c", f"kill -9 {record.pid}"], {"PATH": os.environ["PATH"]})
        assert done.returncode == 0, done.stderr
        self.provisioners.pop(node).wait(10)

    def workers_on(self, node: str) -> list[int]:
        """Pids, as the host sees them, of worker processes that run there, whatever Redis says."""
        shown = self.hosts[node].run(["ps", "-o", "pid=,args=", "-e"], {"PATH": os.environ["PATH"]}).stdout
        return sorted(int(line.split()[0]) for line in shown.splitlines() if "gutscore_rs: worker" in line)

    def cli(self, node: str, *words: str) -> Any:
        """What `gutscore-rs ... --json` prints on a host."""
        done = self.hosts[node].run([sys.executable, "-m", "gutscore_rs", *words, "--json"], self.env(node))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def boot(self, node: str) -> None:
        """A host that was powered off comes back under its name, with its disk and a provisioner."""
        self.hosts[node] = self.network.add(node)
        self.start_provisioner(node)

    def request(self, wgroup_id: int, node: str, *, nworkers: int = 2, wait: bool = True, **spec: Any) -> None:
        full = {
            "backend": "local",
            "host": node,
            "nworkers": nworkers,
            "runtime": 300,
            "daemonize": True,
            "drain_timeout": 1.0,
            "path": [str(SUPPORT)],
        }
        self.operations.request(wgroup_id, full | spec)
        if wait:
            self.wait_count(wgroup_id, nworkers)

    def wait_count(self, wgroup_id: int, nworkers: int, timeout: float = 20.0) -> None:
        wait_until(
            lambda: self.store.workers.count(wgroup_id) == nworkers,
            timeout,
            what=f"{nworkers} workers of set {wgroup_id} are counted",
        )

    def queue(self, name: str = "tasks") -> Queue:
        return Queue(task_queue("test", name), connection=self.store.client)

    def whys(self, wgroup_id: int) -> list[tuple[str, str]]:
        """The set's states with their reasons, oldest first."""
        return [
            (event.fields["state"], event.fields["why"])
            for event in self.store.history.events(1000)
            if event.resource_set == wgroup_id
        ]

    def close(self) -> None:
        """Power all hosts off: whatever runs there is gone."""
        self.store.close()
        self.network.close()
        for file in sorted(self._socket_folder.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        self._socket_folder.rmdir()
