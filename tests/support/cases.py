"""A whole case for system tests: a real server, a real provisioner, real launchers and workers."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rq import Queue
from support.servers import Server
from support.waiting import wait_until

from gutscore_rs.access import Access, write_access
from gutscore_rs.entrypoints import provisioner_command
from gutscore_rs.identity import ProcessIdentity, identify, is_alive, this_process
from gutscore_rs.operations.client import OperationsClient
from gutscore_rs.paths import CaseFolder, StateFolder
from gutscore_rs.processes import kill_marked, start_detached, stop
from gutscore_rs.settings import Settings
from gutscore_rs.store import Store, task_queue
from gutscore_rs.store.records import ResourceSetRecord, State
from gutscore_rs.tasks import Tasks

SUPPORT = Path(__file__).parent.parent  # `support.jobs` is importable from here


@dataclass
class LiveCase:
    """A case with a provisioner on this host; everything it started is gone after :meth:`close`.

    Attributes:
        through: URL by which its processes reach the server, if not the server's own; the test itself goes straight.
    """

    server: Server
    state: Path
    name: str = "test"
    host: str = "test-host"
    through: str = ""
    provisioners: list[ProcessIdentity] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.settings = Settings(state_dir=self.state, runtime_dir=None, host=self.host)
        self.folder: CaseFolder = StateFolder.open(self.settings).case(self.name)
        self.folder.create()
        self.access = Access.new(self.name, url=self.server.url)
        write_access(self.folder.access_file, replace(self.access, url=self.through or self.server.url))
        self.store = Store.open(self.access, name="test")
        self.operations = OperationsClient(self.store, self.access, self.host, requester=this_process(self.host))
        self.tasks = Tasks(self.store)

    @property
    def env(self) -> dict[str, str]:
        return dict(os.environ) | {"GUTSCORE_RS_STATE_DIR": str(self.state), "GUTSCORE_RS_HOST": self.host}

    def provisioner_command(self, owner: ProcessIdentity | None) -> list[str]:
        return provisioner_command(self.folder.access_file, owner=owner)

    def start_provisioner(self, *, owner: ProcessIdentity | None = None) -> ProcessIdentity:
        pid = start_detached(
            self.provisioner_command(owner),
            log=self.folder.log("provisioner"),
            env=self.env,
            cwd=self.state,
        )
        identity = identify(pid, self.host)
        assert identity is not None, self.log_text("provisioner")
        self.provisioners.append(identity)
        wait_until(
            lambda: any(record.pid == pid for record in self.store.provisioners.serving(self.host)),
            20,
            what="the provisioner serves its host",
            interval=0.003,
        )
        return identity

    def log_text(self, stem: str) -> str:
        file = self.folder.log(stem)
        return file.read_text(errors="replace") if file.exists() else ""

    def request(
        self, wgroup_id: int = 0, *, nworkers: int = 2, runtime: int = 120, wait: bool = True, **spec: Any
    ) -> ResourceSetRecord:
        """Request a set and wait until its workers live."""
        full = {
            "backend": "local",
            "nworkers": nworkers,
            "runtime": runtime,
            "daemonize": False,
            "drain_timeout": 1.0,
            "path": [str(SUPPORT)],
        } | spec
        self.operations.request(wgroup_id, full)
        if wait:
            self.wait_active(wgroup_id, nworkers)
        record = self.store.sets.get(wgroup_id)
        assert record is not None
        return record

    def wait_active(self, wgroup_id: int, nworkers: int, timeout: float = 20.0) -> None:
        wait_until(
            lambda: self.store.workers.count(wgroup_id) == nworkers,
            timeout,
            what=f"{nworkers} workers of set {wgroup_id} are counted",
        )

    def state_of(self, wgroup_id: int = 0) -> State | None:
        record = self.store.sets.get(wgroup_id)
        return record.state if record else None

    def pids(self, wgroup_id: int = 0) -> list[int]:
        return sorted(worker.pid for worker in self.store.workers.alive([wgroup_id]))

    def launcher(self, wgroup_id: int = 0) -> ProcessIdentity:
        return self.store.sets.launchers(wgroup_id)[0].identity

    def queue(self) -> Queue:
        return Queue(task_queue(self.name, "tasks"), connection=self.store.client)

    def kill_provisioners(self, signum: int = signal.SIGKILL) -> None:
        for identity in self.provisioners:
            if is_alive(identity):
                os.kill(identity.pid, signum)
        wait_until(lambda: not any(map(is_alive, self.provisioners)), 10, what="the provisioners are gone")

    def close(self) -> None:
        """End everything, whatever state a test left it in."""
        for identity in self.provisioners:
            if is_alive(identity):
                os.kill(identity.pid, signal.SIGCONT)
            stop(identity, grace=5.0)
        survivors = kill_marked(f"{self.folder.root}:", prefix=True)
        assert not survivors, f"could not kill {survivors}"
        self.store.close()

    def reasons(self) -> list[str]:
        """Why workers were lost, oldest first."""
        return [event.fields["reason"] for event in self.store.history.lost(1000)]

    def whys(self, wgroup_id: int = 0) -> list[tuple[str, str]]:
        """The set's states with their reasons, oldest first."""
        return [
            (event.fields["state"], event.fields["why"])
            for event in self.store.history.events(1000)
            if event.resource_set == wgroup_id
        ]

    def error_of(self, wgroup_id: int = 0) -> str:
        record = self.store.sets.get(wgroup_id)
        assert record is not None
        return record.error
