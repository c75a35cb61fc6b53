"""Whoever is killed at whichever step of a request or a release: one set of workers, and none in the end.

Two provisioners serve the host. Each step of ``support.step_list`` is a test; they run side by side on a few lanes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from support.acts import Act, kill, kill_parent
from support.lanes import Lane, Lanes, lanes_for
from support.step_list import RELEASE, REQUEST, only_looks
from support.steps import Moment
from support.waiting import wait_until

# The longest that anything below may take: a lost bell is rung again after 3 s, a lost launch seen after 5 s.
IN_TIME = 12.0
ACTS: dict[str, Act] = {"itself": kill, "its provisioner": kill_parent}


class Point(NamedTuple):
    """Who is killed, before or after which step of whom."""

    phase: str
    kind: str
    moment: Moment
    step: str
    victim: str

    def __str__(self) -> str:
        return f"{self.phase}: {self.moment} {self.step} of the {self.kind}, {self.victim}"


def points() -> Iterator[Point]:
    for phase, lists in (("request", REQUEST), ("release", RELEASE)):
        for kind, steps in lists.items():
            for step in steps:
                moments: tuple[Moment, ...] = ("before",) if only_looks(step) else ("before", "after")
                for moment in moments:
                    yield Point(phase, kind, moment, step, "itself")
                # The fork of a provisioner dies with it.
                if kind == "operation" and not only_looks(step):
                    yield Point(phase, kind, "before", step, "its provisioner")


POINTS = list(points())


def take(lane: Lane, point: Point) -> None:
    """One request and one release, with a kill at the point."""
    wgroup_id, case = lane.ready(), lane.case
    if point.phase == "release":
        case.request(wgroup_id, nworkers=2)
        lane.becomes_whole(wgroup_id, 5)
    fault = lane.arm(point.kind, point.step, point.moment, ACTS[point.victim])
    if point.phase == "request":
        case.request(wgroup_id, nworkers=2, wait=False)
        wait_until(fault.happened.is_set, 10, what=f"{point} happens")
        lane.becomes_whole(wgroup_id, IN_TIME)
        case.operations.release(wgroup_id, 20.0)
    else:
        case.operations.release(wgroup_id, IN_TIME)
        # The operation has a step or two after the one that ends the set.
        wait_until(fault.happened.is_set, 5, what=f"{point} happens")
    lane.is_gone(wgroup_id)


@pytest.fixture(scope="module")
def lanes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lanes[Point]]:
    yield from lanes_for(request, tmp_path_factory.mktemp("every"), take)


@pytest.mark.parametrize("point", POINTS, ids=str)
def test_one_set_of_workers_and_none_in_the_end(lanes: Lanes[Point], point: Point) -> None:
    lanes.result(point)
