"""A case under random faults: real processes, a proxy before the server, and dice that say what breaks next.

The dice are seeded: the same seed brings the same faults in the same order (not at the same instruction).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import psutil
from rq import Queue
from support.cases import LiveCase
from support.invariants import AT_ONCE, IN_TIME, count_is_true, nobody_dead_is_counted, states_are_explained
from support.ledger import Ledger, check_accounts
from support.proxy import DroppingProxy
from support.servers import Server
from support.waiting import wait_until

from gutscore_rs.identity import ProcessIdentity, is_alive, this_process
from gutscore_rs.operations.client import OperationsClient
from gutscore_rs.processes import send_signal
from gutscore_rs.store import Store, task_queue
from gutscore_rs.store.records import State
from gutscore_rs.tasks import Tasks

SETS = {0: 2, 1: 2, 2: 1}
CHURNED = 9
QUEUES = ("urgent", "tasks")
# More launches than a set has are no accident: it fails then, says so, and is requested anew.
GIVEN_UP = "not again"


@dataclass
class ProxiedServer(Server):
    """A server that the processes of a case reach through a proxy only; the test itself goes around it."""

    def __post_init__(self) -> None:
        self.proxy = DroppingProxy(self.socket)

    @property
    def url(self) -> str:
        return f"unix://{self.proxy.socket}"

    def stop(self) -> None:
        self.proxy.close()
        super().stop()


class ProxiedCase(LiveCase):
    """A case behind a proxy; its ``store`` is the test's own, straight to the server."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.store.close()
        self.store = Store.open(replace(self.access, url=f"unix://{self.server.socket}"), name="test")
        requester = this_process(self.host)
        self.operations = OperationsClient(self.store, self.access, self.host, requester=requester)
        self.tasks = Tasks(self.store)


@dataclass
class World:
    """The case, its jobs, and what was done to it so far."""

    case: ProxiedCase
    server: ProxiedServer
    ledger: Ledger
    dice: random.Random
    story: list[str] = field(default_factory=list)
    ended_by_release: set[int] = field(default_factory=set)

    def start(self) -> None:
        """Two provisioners, three sets of workers."""
        self.case.start_provisioner()
        self.case.start_provisioner()
        for wgroup_id in SETS:
            self.request(wgroup_id)
        for wgroup_id, nworkers in SETS.items():
            self.case.wait_active(wgroup_id, nworkers)

    def request(self, wgroup_id: int) -> None:
        names = [task_queue(self.case.name, name) for name in QUEUES]
        nworkers = SETS.get(wgroup_id, 2)
        self.case.request(wgroup_id, nworkers=nworkers, queues=names, max_restarts=1000, runtime=600, wait=False)

    @property
    def queues(self) -> list[Queue]:
        return [Queue(task_queue(self.case.name, name), connection=self.case.store.client) for name in QUEUES]

    def feed(self, count: int) -> None:
        for _ in range(count):
            self.ledger.enqueue(self.dice.choice(self.queues), self.dice)

    def strike(self, faults: list[Fault] | None = None) -> None:
        """One fault, then every invariant that can be judged while jobs run."""
        chosen = faults or FAULTS
        fault = self.dice.choices(chosen, [one.weight for one in chosen])[0]
        self.story.append(fault.name)
        fault.act(self)
        nobody_dead_is_counted(self.case, SETS, AT_ONCE if fault.at_once else IN_TIME)
        self.mend()
        for wgroup_id, nworkers in SETS.items():
            count_is_true(self.case, wgroup_id, nworkers, IN_TIME)
        states_are_explained(self.case, [*SETS, CHURNED])

    def mend(self) -> None:
        """What a person would do: start provisioners that are dead, request sets that gave up."""
        for provisioner in [one for one in self.case.provisioners if not is_alive(one)]:
            self.case.provisioners.remove(provisioner)
            self.case.start_provisioner()
        for wgroup_id in SETS:
            if self.case.state_of(wgroup_id) is State.FAILED:
                assert GIVEN_UP in self.case.error_of(wgroup_id), self.case.error_of(wgroup_id)
                self.request(wgroup_id)

    def wipe(self) -> None:
        """The server crashes and comes back with nothing: jobs and results are lost, what runs is told to it again."""
        self.story.append("wipe the server")
        self.server.restart(keep_data=False)
        self.ledger.forget_open()
        for wgroup_id, nworkers in SETS.items():
            count_is_true(self.case, wgroup_id, nworkers, IN_TIME)
        states_are_explained(self.case, SETS)
        wait_until(lambda: self.case.store.provisioners.serving(self.case.host), IN_TIME, what="a provisioner serves")

    def finish(self) -> None:
        """All jobs end, the accounts are right, everything is released."""
        wait_until(self.ledger.collect, 60, what="every job ended", interval=0.1)
        lost = {int(event.fields["pid"]) for event in self.case.store.history.lost(10_000)}
        check_accounts(self.ledger, self.queues, lost | self.ended_by_release)
        self.release()

    def release(self) -> None:
        """Release everything."""
        for wgroup_id in [*SETS, CHURNED]:
            self.case.operations.release(wgroup_id, timeout=30)

    # -- whom to hit -----------------------------------------------------------------------------------------

    def a_worker(self) -> int:
        pids = wait_until(
            lambda: [pid for wgroup_id in SETS for pid in self.case.pids(wgroup_id)], IN_TIME, what="workers to hit"
        )
        return self.dice.choice(pids)

    def a_launcher(self) -> ProcessIdentity:
        found = wait_until(
            lambda: [one.identity for wgroup_id in SETS for one in self.case.store.sets.launchers(wgroup_id)],
            IN_TIME,
            what="launchers to hit",
        )
        return self.dice.choice(found)

    def a_provisioner(self) -> ProcessIdentity:
        return self.dice.choice(self.case.provisioners)

    def an_operation(self) -> int | None:
        """A set is released or requested, so that there are operations; the pid of one of them if it can be caught."""
        if self.case.state_of(CHURNED) in (None, State.RELEASED, State.FAILED, State.EXPIRED):
            self.request(CHURNED)
        else:
            self.ended_by_release.update(self.case.pids(CHURNED))
            self.case.operations.begin_release(CHURNED)
        ends = time.monotonic() + 1.0
        while time.monotonic() < ends:
            for provisioner in self.case.provisioners:
                for pid in operations_of(provisioner):
                    return pid
        return None


def operations_of(provisioner: ProcessIdentity) -> list[int]:
    """Its children that carry out an operation, by their title."""
    return [pid for pid, title in children_of(provisioner) if "operation" in title]


def children_of(provisioner: ProcessIdentity) -> list[tuple[int, str]]:
    """Its children but for its fork server, with what `ps` shows of them."""
    with contextlib.suppress(psutil.Error, OSError):
        found = [(one.pid, " ".join(one.cmdline())) for one in psutil.Process(provisioner.pid).children()]
        return [(pid, title) for pid, title in found if "fork server" not in title]
    return []


@dataclass(frozen=True)
class Fault:
    """Something that breaks.

    Attributes:
        at_once: What died is out of the count within a second: its launcher saw it.
    """

    name: str
    weight: float
    act: Callable[[World], object]
    at_once: bool = False


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _pause(pid: int, seconds: float) -> None:
    """SIGSTOP, SIGCONT: the time in between is the fault."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)


def _kill_operation(world: World) -> None:
    pid = world.an_operation()
    if pid is not None:
        time.sleep(world.dice.uniform(0, 0.2))  # the moment of its life in which it is hit
        _kill(pid)


def _pause_operation(world: World) -> None:
    pid = world.an_operation()
    if pid is not None:
        _pause(pid, world.dice.uniform(0.2, 2))


def _crash_server(world: World) -> None:
    world.server.kill()
    time.sleep(world.dice.choice([0, 0.3, 2]))  # the outage
    world.server.start()


def _outage(world: World, broken: contextlib.AbstractContextManager[None], longest: float) -> None:
    with broken:
        time.sleep(world.dice.uniform(0.2, longest))  # the outage


def _drop_replies(world: World) -> None:
    proxy, before = world.server.proxy, world.server.proxy.dropped
    for number in range(5):
        proxy.drop_next_reply()
        wait_until(lambda n=number: proxy.dropped > before + n, 10, what="a reply was dropped")


def _kill_several(world: World) -> None:
    for _ in range(3):
        _kill(world.a_worker())


FAULTS = [
    Fault("kill a worker", 4, lambda world: _kill(world.a_worker()), at_once=True),
    Fault("kill three workers", 2, _kill_several, at_once=True),
    Fault("kill a launcher", 2, lambda world: send_signal(world.a_launcher(), signal.SIGKILL)),
    Fault("kill a provisioner", 2, lambda world: send_signal(world.a_provisioner(), signal.SIGKILL)),
    Fault("kill an operation", 2, _kill_operation),
    Fault("crash the server", 2, _crash_server),
    Fault("stop a worker", 1, lambda world: _pause(world.a_worker(), world.dice.uniform(0.2, 2))),
    Fault("stop a launcher", 1.5, lambda world: _pause(world.a_launcher().pid, world.dice.uniform(0.2, 5))),
    Fault("stop a launcher beyond its leases", 0.4, lambda world: _pause(world.a_launcher().pid, 13.5)),
    Fault("stop a provisioner", 1, lambda world: _pause(world.a_provisioner().pid, world.dice.uniform(0.2, 3))),
    Fault("stop an operation", 1, _pause_operation),
    Fault("stop the server", 1, lambda world: _pause(world.server.process.pid, world.dice.uniform(0.2, 4))),
    Fault("cut all connections", 2, lambda world: world.server.proxy.cut()),
    Fault("refuse all connections", 1, lambda world: _outage(world, world.server.proxy.refuse(), 4)),
    Fault("hold up what is sent", 1, lambda world: _outage(world, world.server.proxy.hold(), 5)),
    Fault("drop five replies", 2, _drop_replies),
]
