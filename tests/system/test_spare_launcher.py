"""A spare launcher saves a set the start of Python, and leaves nothing behind when it gets no orders."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from support.cases import LiveCase
from support.waiting import wait_until

from gutscore_rs.identity import identify, is_alive
from gutscore_rs.processes import marked_processes
from gutscore_rs_workers.spare import WAIT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are spares on Linux only")


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def spares(case: LiveCase) -> list[int]:
    """Processes that wait for orders: blocked in a read, after all their imports."""
    return [
        pid
        for provisioner in case.provisioners
        if is_alive(provisioner)
        for pid in children(provisioner.pid)
        if WAIT.encode() in Path(f"/proc/{pid}/cmdline").read_bytes() and is_waiting(pid)
    ]


def is_waiting(pid: int) -> bool:
    # Where in the kernel it sleeps (proc(5)); names differ between versions.
    place = Path(f"/proc/{pid}/wchan").read_text()
    return any(word in place for word in ("skb_wait", "unix_", "recv"))


def the_spare(case: LiveCase) -> int:
    wait_until(lambda: len(spares(case)) == 1, 20, what="a spare launcher waits for orders")
    return spares(case)[0]


def environment_of(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(entry.decode().split("=", 1) for entry in entries if b"=" in entry)


def test_the_spare_becomes_the_launcher_of_the_next_set(case: LiveCase) -> None:
    spare = the_spare(case)
    record = case.request()
    assert case.launcher().pid == spare
    assert "2 workers until the deadline" in case.log_text(f"set-0/g{record.generation}/launcher")
    assert Path(f"/proc/{spare}/cwd").resolve() == Path.cwd()
    case.operations.release(0)
    wait_until(lambda: identify(spare, case.host) is None, 10, what="the launcher is gone")


def test_it_is_found_by_the_mark_of_its_set_like_its_workers(case: LiveCase) -> None:
    spare = the_spare(case)
    record = case.request()
    mark = f"{case.folder.root}:0/{record.generation}/"
    assert set(marked_processes(mark, prefix=True)) == {spare, *case.pids()}
    assert environment_of(spare)["GUTSCORE_RS_MARK"] == mark + record.token


def test_the_next_spare_follows(case: LiveCase) -> None:
    first = the_spare(case)
    case.request(0)
    second = the_spare(case)
    assert second != first
    case.request(1)
    assert case.launcher(1).pid == second


def test_sets_requested_at_once_all_come_up_with_one_spare(case: LiveCase) -> None:
    the_spare(case)
    for wgroup_id in range(3):
        case.request(wgroup_id, nworkers=1, wait=False)
    for wgroup_id in range(3):
        case.wait_active(wgroup_id, 1)


def test_a_set_with_an_environment_of_its_own_gets_a_program_of_its_own(case: LiveCase) -> None:
    spare = the_spare(case)
    case.request(env={"LD_BIND_NOW": "1"})
    launcher = case.launcher().pid
    assert launcher != spare
    assert environment_of(launcher)["LD_BIND_NOW"] == "1"
    wait_until(lambda: identify(spare, case.host) is None, 10, what="the spare that was not used is gone")


@pytest.mark.parametrize("signum", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_set_comes_up_without_it(case: LiveCase, signum: int) -> None:
    spare = the_spare(case)
    os.kill(spare, signum)
    case.request()
    assert case.launcher().pid != spare
    wait_until(lambda: identify(spare, case.host) is None, 10, what="the useless spare is gone")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_its_provisioner(case: LiveCase, signum: int) -> None:
    spare = the_spare(case)
    case.kill_provisioners(signum)
    wait_until(lambda: identify(spare, case.host) is None, 10, what="the spare is gone")


def test_one_that_became_a_launcher_outlives_its_provisioner(case: LiveCase) -> None:
    spare = the_spare(case)
    case.request()
    case.kill_provisioners()
    identity = identify(spare, case.host)
    assert identity is not None
    assert case.launcher() == identity
    assert case.store.workers.count(0) == 2
