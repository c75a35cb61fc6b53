"""A case of many sets and jobs in which things break at random; ``GUTSCORE_RS_SEED`` repeats a run's faults."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.invariants import left_behind
from support.ledger import Ledger
from support.random_faults import ProxiedCase, ProxiedServer, World, children_of
from support.waiting import wait_until

STRIKES = 8


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    seed = int(os.environ.get("GUTSCORE_RS_SEED") or secrets.randbelow(10**6))
    server = ProxiedServer("valkey")
    server.start()
    case = ProxiedCase(server, tmp_path / "state")
    world = World(case, server, Ledger(tmp_path / "runs"), random.Random(seed))
    try:
        world.start()
        yield world
    finally:
        print(f"GUTSCORE_RS_SEED={seed}: {'; '.join(world.story)}")
        case.close()
        server.stop()


def leaves_nothing(world: World) -> None:
    """After the release: no process, no descriptor, no key."""
    assert world.ledger.helpers() == []
    for provisioner in world.case.provisioners:
        process = psutil.Process(provisioner.pid)
        wait_until(lambda one=provisioner: not children_of(one), 5, what="the provisioner has no children left")
        assert process.num_fds() < 20
    ids = world.case.store.sets.ids()
    world.case.store.forget()
    # Dead provisioners are found by their leases, and a living one may have been at its round just then.
    wait_until(lambda: not left_behind(world.case, ids), 15, what=f"nothing is left but {left_behind(world.case, ids)}")


def test_whatever_breaks_at_random_the_count_is_true_and_every_job_is_accounted_for(world: World) -> None:
    for _ in range(STRIKES):
        world.feed(25)
        world.strike()
    world.finish()
    leaves_nothing(world)


def test_a_server_that_comes_back_empty_under_load_has_the_true_count_and_goes_on(world: World) -> None:
    for _ in range(2):
        world.feed(60)
        world.strike()
        world.wipe()
    # Workers that still ran a job of before had no claim to it any more: what ends now is what was enqueued since.
    world.feed(60)
    wait_until(world.ledger.collect, 60, what="every job ended", interval=0.1)
    assert len(world.ledger.ended) >= 60
    world.release()
    leaves_nothing(world)
