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
from support.random_faults import ProxiedCase, ProxiedServer, World
from support.waiting import wait_until

STRIKES = 12


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


def test_whatever_breaks_at_random_the_count_is_true_and_every_job_is_accounted_for(world: World) -> None:
    for _ in range(STRIKES):
        world.feed(25)
        world.strike()
    world.finish()
    assert world.ledger.helpers() == []
    for provisioner in world.case.provisioners:
        process = psutil.Process(provisioner.pid)
        wait_until(lambda one=process: not one.children(), 5, what="the provisioner has no children left")
        assert process.num_fds() < 20
    ids = world.case.store.sets.ids()
    world.case.store.forget()
    # A provisioner that was at its round just then may have written a line more.
    wait_until(lambda: not left_behind(world.case, ids), 15, what=f"nothing is left but {left_behind(world.case, ids)}")
