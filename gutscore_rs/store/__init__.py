"""The store: all that gutscore_rs reads from and writes to Redis. The only importer of ``redis``."""

from __future__ import annotations

from typing import Any

import redis

from gutscore_rs.access import Access
from gutscore_rs.errors import StateConflictError
from gutscore_rs.store.calls import CallRecord, Calls, CallState
from gutscore_rs.store.claims import Claim, End, Exchange
from gutscore_rs.store.connection import PATIENCE, ServerFacts, connect, describe, inspect_server, translated
from gutscore_rs.store.history import History
from gutscore_rs.store.jobs import Jobs
from gutscore_rs.store.keys import (
    CaseKeys,
    PollKeys,
    RqKeys,
    allocation_server,
    cluster_server,
    operations_queue,
    task_queue,
)
from gutscore_rs.store.new_jobs import NewJob, NewJobs
from gutscore_rs.store.polls import Polls
from gutscore_rs.store.provisioners import Provisioners
from gutscore_rs.store.records import State
from gutscore_rs.store.resource_sets import ResourceSets
from gutscore_rs.store.scripts import Scripts, load_scripts
from gutscore_rs.store.submissions import Submissions
from gutscore_rs.store.workers import WorkerRegistry

__all__ = [
    "CallRecord",
    "CallState",
    "CaseKeys",
    "Claim",
    "End",
    "Exchange",
    "Jobs",
    "NewJob",
    "PollKeys",
    "RqKeys",
    "ServerFacts",
    "Store",
    "allocation_server",
    "cluster_server",
    "load_scripts",
    "operations_queue",
    "task_queue",
]


class Store:
    """One case in one Redis.

    Args:
        client: The connection; RQ may share it.
        case: The case's name.
        where: The server's address, for messages.

    Attributes:
        sets: Resource sets and their states.
        workers: The registry of workers.
        jobs: RQ jobs.
        new_jobs: RQ jobs on their way into a queue, many at once.
        calls: Calls of executors.
        provisioners: Provisioners, duties, locks, nonces.
        history: Events and deaths.
        submissions: Submissions to Slurm.
        polls: Looks at the queues of Slurm clusters.
    """

    def __init__(self, client: redis.Redis, case: str, where: str = "Redis") -> None:
        self.client = client
        self.case = case
        self.where = where
        self.keys = CaseKeys(case)
        self.rq_keys = RqKeys()
        scripts = Scripts(client, where)
        self.sets = ResourceSets(client, scripts, self.keys, where)
        self.workers = WorkerRegistry(client, scripts, self.keys, self.rq_keys, where)
        self.jobs = Jobs(client, scripts, where, self.rq_keys)
        self.new_jobs = NewJobs(scripts, self.rq_keys)
        self.calls = Calls(client, scripts, self.keys, self.rq_keys, where)
        self.provisioners = Provisioners(client, scripts, self.keys, where)
        self.submissions = Submissions(client, self.keys, where)
        self.polls = Polls(client, scripts, where)
        self.history = History(client, self.keys, where)

    @classmethod
    def open(
        cls, access: Access, *, name: str = "", timeout: float = 5.0, retries: int = 3, patience: float = PATIENCE
    ) -> Store:
        """A store over a connection of its own, made at the first command; for the arguments see ``connect``."""
        client = connect(access, name=name, timeout=timeout, retries=retries, patience=patience)
        return cls(client, access.case, describe(access))

    def inspect(self) -> ServerFacts:
        """What the server is; refuses one that cannot serve (see ``inspect_server``)."""
        return inspect_server(self.client, self.where)

    def time(self) -> float:
        """Seconds by the server's clock."""
        with translated(self.where):
            seconds, micros = self.client.time()
        return float(seconds) + float(micros) / 1e6

    def run_id(self) -> str:
        """Names this life of the server: it changes with every restart."""
        with translated(self.where):
            info: Any = self.client.info("server")
        return str(info.get("run_id", ""))

    def ping(self) -> bool:
        """Whether the server answers.

        Raises:
            StoreUnavailableError: It does not.
        """
        with translated(self.where):
            return bool(self.client.ping())

    def connection_limits(self) -> tuple[int, int]:
        """Connections that the server grants, and those in use."""
        with translated(self.where):
            info: Any = self.client.info("clients")
        return int(info.get("maxclients", 10000)), int(info.get("connected_clients", 0))

    def forget(self) -> None:
        """Remove every key of this case, once no worker lives, but for the registry of its provisioners.

        The living serve on; what a dead one had taken is found by its entry.

        Raises:
            StateConflictError: A resource set has not ended.
        """
        for record in self.sets.all():
            if not record.state.ended and record.state is not State.DESCRIBED:
                raise StateConflictError(
                    f"Resource set {record.wgroup_id} of case {self.case!r} is {record.state.value}; "
                    "release it before the case is forgotten."
                )
        for wgroup_id in self.sets.ids():
            self.sets.forget(wgroup_id)
        stay = {self.keys.provisioners.encode(), self.keys.provisioner_info.encode()}
        with translated(self.where):
            for key in self.client.scan_iter(match=f"{self.keys.root}:*", count=1000):
                if key not in stay and not key.startswith(f"{self.keys.root}:tombstone:".encode()):
                    self.client.delete(key)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
