"""``daemonize``: whether workers end with the process that asked for them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import requester
from support.cases import LiveCase
from support.processes import survivors
from support.waiting import holds_for, wait_until

from gutscore_rs.store.records import State


@pytest.fixture
def program(case: LiveCase) -> Iterator[subprocess.Popen[bytes]]:
    """A user's program that requested set 0 with ``daemonize = false`` and set 1 with ``daemonize = true``."""
    command = [
        sys.executable,
        str(Path(requester.__file__)),
        str(case.folder.access_file),
        case.host,
        "0=false",
        "1=true",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=case.env) as process:
        case.wait_active(0, 1)
        case.wait_active(1, 1)
        yield process
        process.kill()


def test_workers_end_with_their_requester_unless_they_are_daemons(
    case: LiveCase, program: subprocess.Popen[bytes]
) -> None:
    bound, free = case.pids(0), case.pids(1)
    holds_for(lambda: case.store.workers.counts([0, 1]) == {0: 1, 1: 1}, 1.0, what="both live with their requester")
    program.kill()
    program.wait()
    wait_until(lambda: case.state_of(0) is State.RELEASED, 10, what="the bound set is released")
    assert survivors(bound) == []
    assert (State.RELEASING, "the requester's process ended (daemonize = false)") in case.whys(0)
    holds_for(lambda: case.pids(1) == free and case.state_of(1) is State.ACTIVE, 1.0, what="the daemons live on")
    case.operations.release(1, timeout=20)
    assert survivors(free) == []


def test_bound_workers_end_without_any_provisioner_too(case: LiveCase, program: subprocess.Popen[bytes]) -> None:
    bound, launcher = case.pids(0), case.launcher(0)
    case.kill_provisioners()
    program.kill()
    program.wait()
    wait_until(lambda: not survivors([*bound, launcher.pid]), 10, what="workers and launcher ended")
    assert case.store.workers.counts([0, 1]) == {0: 0, 1: 1}
    assert case.state_of(0) in (State.RELEASING, State.RELEASED)
    case.operations.release(1, timeout=30)
