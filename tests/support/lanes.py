"""Lanes: cases side by side, each with a server, a proxy and two provisioners of its own, for faults one by one.

Recovery is waiting more than work, so that a few lanes take all points in a fraction of the time. A lane takes one
point after the other, each with a resource set of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Generic, TypeVar, get_args

import pytest
from support.acts import Act
from support.cases import LiveCase
from support.census import Launches, Watch, census
from support.servers import Server
from support.steps import Fault, Moment, StepProxy
from support.waiting import wait_until

from gutscore_rs.identity import is_alive
from gutscore_rs.processes import marked_processes, stop
from gutscore_rs.store.records import State
from gutscore_rs.store.scripts import ScriptName, source

P = TypeVar("P")
NWORKERS = 2
LANES = 6


class Lane:
    """One case."""

    def __init__(self, root: Path, name: str, *, keep_trace: bool = False) -> None:
        self.server = Server("valkey")
        self.server.start()
        # A first EVALSHA that fails would be counted as a step.
        with self.server.client() as client:
            for script in get_args(ScriptName):
                client.script_load(source(script))
        self.proxy = StepProxy(self.server.socket, keep_trace=keep_trace)
        self.case = LiveCase(self.server, root / name, name=name, through=self.proxy.url)
        self._ids = itertools.count()

    def ready(self) -> int:
        """Two provisioners live, nothing waits to happen; the number of the next set."""
        self.proxy.disarm()
        case = self.case
        case.provisioners[:] = [identity for identity in case.provisioners if is_alive(identity)]
        while len(case.provisioners) < 2:
            case.start_provisioner()
        return next(self._ids)

    def arm(self, kind: str, step: str, moment: Moment, act: Act) -> Fault:
        """Let something happen at a step, ``name`` or ``name#<which>``."""
        name, _, nth = step.partition("#")
        return self.proxy.arm(Fault(kind, name, moment, act, int(nth or 1)))

    def is_whole(self, wgroup_id: int, nworkers: int = NWORKERS) -> bool:
        """The set is active, with exactly its workers counted, which really run, under exactly one launcher."""
        launches = list(self._launches(wgroup_id).values())
        return (
            len(launches) == 1
            and len(launches[0].launchers) == 1
            and sorted(launches[0].workers) == self.case.pids(wgroup_id)
            and self.case.store.workers.count(wgroup_id) == nworkers
            and self.case.state_of(wgroup_id) is State.ACTIVE
        )

    def _launches(self, wgroup_id: int) -> Launches:
        return census(self.case.folder.root).get(f"{self.case.folder.root}:{wgroup_id}", {})

    def becomes_whole(self, wgroup_id: int, seconds: float) -> None:
        """The set is what was asked for in time, whatever happened before."""
        try:
            wait_until(lambda: self.is_whole(wgroup_id), seconds, what="the set is whole", interval=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.story(wgroup_id)}") from None

    def is_gone(self, wgroup_id: int, final: State = State.RELEASED) -> None:
        """The set has ended, and nothing of it lives."""
        case = self.case
        assert case.state_of(wgroup_id) is final, self.story(wgroup_id)
        left = marked_processes(f"{case.folder.root}:{wgroup_id}/", prefix=True)
        assert not left, f"{left} live: {self.story(wgroup_id)}"
        assert case.store.workers.count(wgroup_id) == 0
        assert case.store.sets.launchers(wgroup_id) == []
        self.is_explained(wgroup_id)

    def is_explained(self, wgroup_id: int) -> None:
        """Each change of the set's state follows from the one before, and says why."""
        events = [event.fields for event in self.case.store.history.events(10_000) if event.resource_set == wgroup_id]
        states = ["", *(event["state"] for event in events)]
        assert [event["from"] for event in events] == states[:-1], events
        assert all(event["why"] for event in events[1:]), events

    def story(self, wgroup_id: int) -> str:
        """What is known of a set, for a test that failed."""
        case = self.case
        return "\n".join(
            [
                f"{case.store.sets.get(wgroup_id)}",
                f"{case.whys(wgroup_id)}",
                f"counted {case.pids(wgroup_id)}, real {dict(self._launches(wgroup_id))}",
                case.log_text("provisioner")[-3000:],
                *(file.read_text()[-2000:] for file in case.folder.logs.glob(f"set-{wgroup_id}/*/launcher.log")),
            ]
        )

    def close(self) -> None:
        """End everything."""
        with contextlib.suppress(Exception):
            self.case.operations.release(0, 1.0)
        for identity in self.case.provisioners:
            stop(identity, grace=5.0)
        try:
            self.case.close()
        finally:
            self.proxy.close()
            self.server.stop()


class Lanes(Generic[P]):
    """Takes points on several lanes at once.

    Args:
        root: Where the lanes' state folders go.
        count: How many lanes.
        take: What is done with a point on a lane.
        points: All of them.
    """

    def __init__(self, root: Path, count: int, take: Callable[[Lane, P], None], points: Iterable[P]) -> None:
        self._root, self._take = root, take
        self._free: queue.SimpleQueue[Lane | int] = queue.SimpleQueue()
        for number in range(count):
            self._free.put(number)
        self.watch = Watch(root)
        self._pool = ThreadPoolExecutor(count)
        self._outcomes: dict[P, Future[None]] = {point: self._pool.submit(self._run, point) for point in points}

    def _run(self, point: P) -> None:
        free = self._free.get()
        lane = Lane(self._root, f"lane{free}") if isinstance(free, int) else free
        try:
            self._take(lane, point)
        finally:
            self._free.put(lane)

    def result(self, point: P) -> None:
        """Wait for a point; what it raised is raised here."""
        self._outcomes[point].result()

    def close(self) -> None:
        """End all lanes."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.watch.end()
        with contextlib.ExitStack() as stack:
            for lane in self._lanes():
                stack.callback(lane.close)

    def _lanes(self) -> Iterator[Lane]:
        while not self._free.empty():
            free = self._free.get()
            if isinstance(free, Lane):
                yield free


def lanes_for(request: pytest.FixtureRequest, root: Path, take: Callable[[Lane, P], None]) -> Iterator[Lanes[P]]:
    """For a module's fixture: all points that its tests name are taken side by side, and no set was ever doubled."""
    wanted = [item.callspec.params["point"] for item in request.session.items if item.path == request.path]
    made = Lanes(root, LANES, take, wanted)
    yield made
    made.close()
    assert made.watch.looks
    assert not made.watch.doubles
