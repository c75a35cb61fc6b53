"""The fork server saves a set the start of Python, and without it a set comes up all the same."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from support.cases import LiveCase
from support.waiting import wait_until

from gutscore_rs.identity import identify
from gutscore_rs.processes import marked_processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it is for Linux only")


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


def fork_server(case: LiveCase) -> int:
    provisioner = case.provisioners[-1].pid
    children = Path(f"/proc/{provisioner}/task/{provisioner}/children").read_text().split()
    (found,) = [int(pid) for pid in children if "fork server" in command_of(int(pid))]
    return found


def is_forked(case: LiveCase, wgroup_id: int = 0) -> bool:
    """Whether the launcher runs the program of its provisioner: a title, not a command line of its own, is seen of it."""
    log = case.log_text(f"set-{wgroup_id}/g{case.store.sets.get(wgroup_id).generation}/launcher")  # type: ignore[union-attr]
    assert "workers until the deadline" in log
    environ = Path(f"/proc/{case.launcher(wgroup_id).pid}/environ").read_bytes()
    # Only one that was forked has its mark before everything else.
    return environ.startswith(b"GUTSCORE_RS_MARK=")


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_launchers_are_forked_and_adopted_by_the_provisioner(case: LiveCase) -> None:
    for wgroup_id in (0, 1):
        case.request(wgroup_id)
        assert is_forked(case, wgroup_id)
        launcher = case.launcher(wgroup_id).pid
        assert parent_of(launcher) == case.provisioners[0].pid
        assert os.getsid(launcher) == launcher
        assert Path(f"/proc/{launcher}/cwd").resolve() == Path.cwd()
    case.operations.release(0)


def test_ps_shows_what_each_process_is(case: LiveCase) -> None:
    case.request(nworkers=1)
    assert command_of(case.launcher().pid) == "gutscore_rs: launcher of resource set 0 of case test"
    assert command_of(case.pids()[0]) == "gutscore_rs: worker 0 of resource set 0 of case test"


def test_all_are_found_by_the_mark_of_their_set(case: LiveCase) -> None:
    record = case.request()
    mark = f"{case.folder.root}:0/{record.generation}/"
    assert set(marked_processes(mark, prefix=True)) == {case.launcher().pid, *case.pids()}


def test_a_launcher_outlives_fork_server_and_provisioner(case: LiveCase) -> None:
    case.request()
    server, launcher, workers = fork_server(case), case.launcher(), case.pids()
    case.kill_provisioners()
    wait_until(lambda: identify(server, case.host) is None, 10, what="the fork server ended with its provisioner")
    assert case.launcher() == launcher
    assert case.pids() == workers


def test_it_ends_with_a_provisioner_that_is_told_to_end(case: LiveCase) -> None:
    server = fork_server(case)
    case.kill_provisioners(signal.SIGTERM)
    wait_until(lambda: identify(server, case.host) is None, 10, what="the fork server is gone")


@pytest.mark.parametrize("signum", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
def test_without_it_sets_come_up_as_programs(case: LiveCase, signum: int) -> None:
    server = fork_server(case)
    os.kill(server, signum)
    case.request()
    assert not is_forked(case)
    assert command_of(case.launcher().pid) == "gutscore_rs: launcher of resource set 0 of case test"
    if signum == signal.SIGSTOP:
        # The orders are still there; whoever takes them now finds that nobody waits for an answer.
        os.kill(server, signal.SIGCONT)
        case.request(1)
        assert is_forked(case, 1)
        assert len(case.store.sets.launchers(0)) == 1
        launchers = {case.launcher(0).pid, case.launcher(1).pid}
        assert set(marked_processes(f"{case.folder.root}:", prefix=True)) == launchers | {*case.pids(0), *case.pids(1)}


def test_an_environment_of_its_own_gets_a_program_of_its_own(case: LiveCase) -> None:
    case.request(env={"LD_BIND_NOW": "1"})
    assert not is_forked(case)
    assert b"LD_BIND_NOW=1" in Path(f"/proc/{case.launcher().pid}/environ").read_bytes().split(b"\0")
