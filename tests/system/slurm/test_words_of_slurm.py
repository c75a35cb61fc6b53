"""What Slurm, or what stands in its place, says and a real one cannot be made to say here; and a Redis that forgot."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support.slurm_cases import SlurmCase
from support.slurm_cluster import SlurmCluster, wrapped
from support.waiting import holds_for, wait_until

from gutscore_rs.identity import is_alive
from gutscore_rs.store import PollKeys
from gutscore_rs.store.records import State


@pytest.fixture
def with_program(slurm_case: SlurmCase, tmp_path: Path) -> Callable[[str, str], Path]:
    """Start the provisioner anew with a wrapper around one of Slurm's programs; gives the folder of its marks."""

    def start(program: str, body: str) -> Path:
        folder = wrapped(tmp_path, program, body)
        slurm_case.restart(folder)
        return folder

    return start


def looks_of(provisioner: int) -> list[int]:
    """Its children that look at a queue."""
    found = []
    for child in Path(f"/proc/{provisioner}/task/{provisioner}/children").read_text().split():
        with contextlib.suppress(OSError):
            if b"look at cluster" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


def test_a_limit_on_submissions_means_wait_and_say_so(
    slurm_case: SlurmCase, slurm: SlurmCluster, with_program: Callable[[str, str], Path]
) -> None:
    # jobflow-remote#135: a quota that is reached is no error.
    with_program(
        "sbatch",
        'echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; echo "sbatch: error: Batch job submission failed: Job '
        "violates accounting/QOS policy (job submit limit, user's size and/or time limits)\" >&2; exit 1",
    )
    slurm_case.request(wait=False)
    wait_until(lambda: "QOSMaxSubmit" in slurm_case.record().pending_reason, 10, what="the reason")
    record = slurm_case.record()
    assert record.state is State.REQUESTED
    assert 40 < record.next_try_at - slurm_case.store.time() < 75
    assert record.expires_at > record.next_try_at + 60
    slurm_case.operations.release(0, timeout=20)
    assert slurm_case.state_of() is State.RELEASED


def test_a_state_that_nobody_knows_changes_nothing(
    slurm_case: SlurmCase, with_program: Callable[[str, str], Path]
) -> None:
    # Parsl#2255: unknown words taken for the end of a job made it submit more and more.
    marks = with_program(
        "squeue", 'if [ -e $MARKS/strange ]; then $REAL "$@" | sed s/RUNNING/LEVITATING/; else exec $REAL "$@"; fi'
    )
    slurm_case.request()
    job = slurm_case.job_of()
    (marks / "strange").touch()
    at = slurm_case.store.time()
    keys = PollKeys(slurm_case.slurm.name, "root")

    def seen() -> bool:
        poll = slurm_case.store.polls.newest(keys)
        return poll is not None and poll.at > at and any(row["state"] == "LEVITATING" for row in poll.rows)

    wait_until(seen, 10, what="a look that shows the strange state")
    holds_for(lambda: slurm_case.state_of() is State.ACTIVE, 2.0, what="the set stays active", interval=0.2)
    assert slurm_case.record().slurm_job == job


def test_a_job_that_ran_out_of_memory_is_told_so(
    slurm_case: SlurmCase, with_program: Callable[[str, str], Path]
) -> None:
    # Without cgroups Slurm does not see it here: the kernel's kill is real, Slurm's word for it is not.
    with_program("squeue", '$REAL "$@" | sed s/FAILED/OUT_OF_MEMORY/')
    slurm_case.request(nworkers=1)
    os.kill(slurm_case.launcher().pid, signal.SIGKILL)
    assert "OUT_OF_MEMORY" in slurm_case.wait_state(0, State.FAILED, timeout=30).error


def test_a_queue_of_garbage_changes_nothing(slurm_case: SlurmCase, with_program: Callable[[str, str], Path]) -> None:
    marks = with_program(
        "squeue", 'if [ -e $MARKS/odd ]; then echo "Welcome to the cluster!"; else exec $REAL "$@"; fi'
    )
    slurm_case.request()
    workers = slurm_case.pids()
    (marks / "odd").touch()
    wait_until(lambda: "Welcome to the cluster" in slurm_case.log_text("provisioner"), 10, what="the complaint")
    assert slurm_case.state_of() is State.ACTIVE
    assert slurm_case.pids() == workers


def test_garbage_in_place_of_a_look_is_looked_over(slurm_case: SlurmCase) -> None:
    slurm_case.request()
    keys = PollKeys(slurm_case.slurm.name, "root")
    slurm_case.store.client.set(keys.poll, b"\xff\x00 no look")
    wait_until(lambda: slurm_case.store.polls.newest(keys) is not None, 10, what="a new look")
    assert slurm_case.state_of() is State.ACTIVE


def test_what_redis_lost_is_restored_by_the_launchers_and_can_be_released(
    slurm_case: SlurmCase, slurm: SlurmCluster
) -> None:
    for wgroup_id in range(2):
        slurm_case.operations.request(wgroup_id, slurm_case.spec())
    for wgroup_id in range(2):
        slurm_case.wait_active(wgroup_id, 2, 40)
    jobs = [slurm_case.job_of(wgroup_id) for wgroup_id in range(2)]
    slurm_case.store.client.flushall()
    for wgroup_id in range(2):
        wait_until(lambda w=wgroup_id: slurm_case.state_of(w) is State.ACTIVE, 15, what="it is back")  # type: ignore[misc]
    assert [slurm_case.record(wgroup_id).slurm_job for wgroup_id in range(2)] == jobs
    wait_until(lambda: slurm_case.store.provisioners.serving(slurm_case.cluster_server), 10, what="a provisioner")
    # Both are judged again, though Redis had lost their submission.
    slurm.run("scancel", jobs[1])
    assert "CANCELLED" in slurm_case.wait_state(1, State.FAILED).error
    slurm_case.operations.release(0, timeout=40)
    assert slurm.jobs() == []


def test_redis_away_while_a_look_is_taken_does_not_end_the_provisioner(
    slurm_case: SlurmCase, with_program: Callable[[str, str], Path]
) -> None:
    marks = with_program(
        "squeue",
        "if [ -e $MARKS/hold ]; then touch $MARKS/held; until [ -e $MARKS/go ]; do read -t 0.05 <> <(:); done; fi; "
        'exec $REAL "$@"',
    )
    slurm_case.request()
    (marks / "hold").touch()
    wait_until((marks / "held").exists, 15, what="a look is under way")
    slurm_case.server.kill()
    (marks / "go").touch()
    # The look has nowhere to leave its answer, and its end comes while Redis is away.
    provisioner = slurm_case.provisioners[-1]
    wait_until(lambda: not looks_of(provisioner.pid), 30, what="the look has ended")
    # Longer than a call of Redis is tried again.
    holds_for(lambda: is_alive(provisioner), 8.0, what="the provisioner lives", interval=0.2)
    slurm_case.server.start()
    at = slurm_case.store.time()
    keys = PollKeys(slurm_case.slurm.name, "root")
    wait_until(
        lambda: (poll := slurm_case.store.polls.newest(keys)) is not None and poll.at > at, 20, what="a new look"
    )


def test_a_provisioner_killed_during_its_look_does_not_blind_the_next(
    slurm_case: SlurmCase, with_program: Callable[[str, str], Path]
) -> None:
    marks = with_program(
        "squeue", 'if [ ! -e $MARKS/free ]; then touch $MARKS/held; read -t 100 <> <(:); fi; exec $REAL "$@"'
    )
    slurm_case.request(wait=False)
    wait_until((marks / "held").exists, 15, what="a look is under way")
    slurm_case.kill_provisioners()
    (marks / "free").touch()
    slurm_case.restart()
    keys = PollKeys(slurm_case.slurm.name, "root")
    wait_until(lambda: slurm_case.store.polls.newest(keys) is not None, 30, what="the next one looks")
