"""What happens when a provisioner is killed at any moment, is absent, or wakes up late."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rq import Queue
from rq.job import Job, JobStatus
from support import jobs
from support.cases import LiveCase
from support.processes import survivors
from support.random_faults import operations_of
from support.waiting import holds_for, wait_until

from gutscore_rs.errors import NoProvisionerError
from gutscore_rs.identity import ProcessIdentity, identify, process_stat
from gutscore_rs.operations.doorbell import CARRY_OUT, MsgpackSerializer
from gutscore_rs.processes import marked_processes
from gutscore_rs.store import operations_queue
from gutscore_rs.store.provisioners import lock_owner
from gutscore_rs.store.records import State


def launchers_of(case: LiveCase) -> list[int]:
    """Pids of all launcher processes of the case that run now, whatever Redis says."""
    return [
        pid
        for pid in marked_processes(f"{case.folder.root}:", prefix=True)
        if re.search(rb"launcher|workergroup", Path(f"/proc/{pid}/cmdline").read_bytes())
    ]


def dead_process(host: str) -> ProcessIdentity:
    """A process that was."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        identity = identify(process.pid, host)
    assert identity is not None
    return identity


def test_workers_outlive_their_provisioner_and_a_new_one_takes_over(case: LiveCase) -> None:
    case.request(nworkers=2)
    workers, launcher = case.pids(), case.launcher()
    case.kill_provisioners()
    job = case.queue().enqueue(jobs.square, 5)
    wait_until(lambda: job.get_status() is JobStatus.FINISHED, what="work goes on without a provisioner")
    holds_for(lambda: case.pids() == workers, 1.0, what="the count does not change")
    case.start_provisioner()
    holds_for(lambda: case.pids() == workers, 1.0, what="the new provisioner leaves them alone")
    os.kill(launcher.pid, signal.SIGKILL)
    wait_until(
        lambda: (now := case.pids()) and len(now) == 2 and not set(now) & set(workers),
        10,
        what="the new provisioner sees the launcher's death",
    )
    case.operations.release(0, timeout=20)
    assert case.state_of() is State.RELEASED


@pytest.mark.parametrize("state", [State.REQUESTED, State.SUBMITTING, State.STARTING])
def test_a_provisioner_killed_in_the_middle_of_a_request_leaves_no_double(case: LiveCase, state: State) -> None:
    case.request(nworkers=2, wait=False)
    order = list(State)
    wait_until(
        lambda: order.index(case.state_of() or State.DESCRIBED) >= order.index(state),
        10,
        what=str(state),
        interval=0.0005,
    )
    case.kill_provisioners()
    case.start_provisioner()
    case.wait_active(0, 2, timeout=20)
    assert len(launchers_of(case)) == 1
    holds_for(lambda: case.store.workers.count(0) == 2 and len(launchers_of(case)) == 1, 1.0, what="one launcher")


def test_an_operation_killed_between_its_intent_and_the_start_is_taken_up_again(case: LiveCase) -> None:
    (provisioner,) = case.provisioners
    os.kill(provisioner.pid, signal.SIGSTOP)
    case.request(nworkers=1, wait=False)
    record = case.store.sets.get(0)
    assert record is not None
    # What an operation leaves behind that is killed here: its intent, and the lock of the set.
    case.store.provisioners.lock(0, lock_owner(dead_process(case.host)), 30.0)
    case.store.sets.transition(
        record, State.SUBMITTING, "killed right after this", token="0123456789abcdef", launches=1
    )
    os.kill(provisioner.pid, signal.SIGCONT)
    case.wait_active(0, 1, timeout=15)
    assert len(launchers_of(case)) == 1
    assert (State.REQUESTED, "its launch was interrupted") in case.whys()


def test_without_a_provisioner_a_request_is_refused_and_nothing_is_written(case: LiveCase) -> None:
    (provisioner,) = case.provisioners
    os.kill(provisioner.pid, signal.SIGTERM)
    wait_until(lambda: not process_stat(provisioner.pid) or not survivors([provisioner.pid]), what="it ended")
    before = set(case.store.client.keys("*"))
    with pytest.raises(NoProvisionerError, match=r"No live provisioner of case 'test' serves 'test-host'"):
        case.operations.request(0, {"backend": "local", "nworkers": 1, "runtime": 60})
    assert set(case.store.client.keys("*")) == before


def test_a_release_needs_no_provisioner(case: LiveCase) -> None:
    case.request(nworkers=2)
    everybody = [*case.pids(), case.launcher().pid]
    case.kill_provisioners()
    case.operations.release(0, timeout=30)
    assert case.state_of() is State.RELEASED
    assert survivors(everybody) == []


def test_a_request_that_nobody_answers_in_time_fails(case: LiveCase) -> None:
    (provisioner,) = case.provisioners
    os.kill(provisioner.pid, signal.SIGSTOP)
    spec = {"backend": "local", "nworkers": 1, "runtime": 60}
    case.operations.request(0, spec, timeout=0.5)
    wait_until(lambda: case.store.time() > case.store.sets.get(0).expires_at, what="the request expires")
    os.kill(provisioner.pid, signal.SIGCONT)
    wait_until(lambda: case.state_of() is State.FAILED, 10, what="the set failed")
    assert "request expired" in case.error_of()
    assert "request it again" in case.error_of()
    assert launchers_of(case) == []


def test_a_release_may_overtake_its_request(case: LiveCase) -> None:
    (provisioner,) = case.provisioners
    os.kill(provisioner.pid, signal.SIGSTOP)
    case.request(nworkers=1, wait=False)
    case.operations.begin_release(0)
    os.kill(provisioner.pid, signal.SIGCONT)
    wait_until(lambda: case.state_of() is State.RELEASED, 10, what="the set is released")
    holds_for(lambda: launchers_of(case) == [] and case.state_of() is State.RELEASED, 1.0, what="nothing was started")


def test_reconcile_is_an_operation_that_a_provisioner_carries_out_at_once(case: LiveCase) -> None:
    case.request(nworkers=1)
    assert case.operations.reconcile(0)
    record = case.store.sets.get(0)
    assert record is not None
    job_id = f"op-{case.name}-0-{record.generation}-{record.version}-reconcile"
    operation = Job(job_id, connection=case.store.client, serializer=MsgpackSerializer)
    result = wait_until(operation.latest_result, 10, what="the operation has a result")
    assert result.return_value == "reconciled: the set is active"
    assert not case.operations.reconcile(99)


def test_an_operation_that_a_killed_provisioner_had_taken_goes_back_to_its_queue(case: LiveCase) -> None:
    queue = Queue(operations_queue(case.name, "elsewhere"), connection=case.store.client, serializer=MsgpackSerializer)
    job = queue.enqueue_call(CARRY_OUT, args=(b"whatever",), job_id="taken")
    dead = "elsewhere/123/deadbeef"
    name = case.store.provisioners.rq_name(dead)
    claim = case.store.jobs.claim([queue.name], name)
    assert claim is not None
    case.store.client.zadd(case.store.keys.provisioners, {dead: case.store.time() - 1})
    wait_until(lambda: queue.job_ids == [job.id], 30, what="the operation is back in its queue")
    assert case.store.jobs.held_by(name) == []
    wait_until(lambda: dead not in case.store.provisioners.expired(), what="the dead provisioner is forgotten")


def test_an_operation_that_is_killed_ends_in_rq_too_and_its_set_is_served(case: LiveCase) -> None:
    (provisioner,) = case.provisioners
    os.kill(provisioner.pid, signal.SIGSTOP)
    case.request(nworkers=1, wait=False)
    os.kill(provisioner.pid, signal.SIGCONT)
    operation = wait_until(lambda: operations_of(provisioner), 5, what="an operation", interval=0.0005)
    os.kill(operation[0], signal.SIGKILL)
    case.wait_active(0, 1)
    wip = case.store.rq_keys.started(operations_queue(case.name, case.host))
    wait_until(lambda: not case.store.client.exists(wip), 5, what="no operation is booked as under way")
    assert [case.store.jobs.held_by(name) for name in names_of(case)] == [[]]
    assert len(launchers_of(case)) == 1


def names_of(case: LiveCase) -> list[str]:
    return [case.store.provisioners.rq_name(one.member) for one in case.store.provisioners.alive()]


def test_a_provisioner_that_is_told_to_end_in_the_middle_of_an_operation_gives_it_back(
    case: LiveCase, tmp_path: Path
) -> None:
    (provisioner,) = case.provisioners
    case.request(nworkers=1, drain_timeout=60.0)
    case.queue().enqueue(jobs.sleep, 60, str(tmp_path / "marks"))
    wait_until((tmp_path / "marks").exists, what="the job has begun")
    (name,) = names_of(case)
    wait_until(lambda: not case.store.jobs.held_by(name), 5, what="the request is booked")
    case.operations.begin_release(0)
    wait_until(lambda: case.store.jobs.held_by(name), 5, what="the release is under way", interval=0.005)
    os.kill(provisioner.pid, signal.SIGTERM)
    wait_until(lambda: not survivors([provisioner.pid]), 20, what="the provisioner ended")
    assert case.store.jobs.held_by(name) == []
    queue = Queue(operations_queue(case.name, case.host), connection=case.store.client, serializer=MsgpackSerializer)
    assert len(queue.job_ids) == 1
    case.start_provisioner()


def test_forget_leaves_living_provisioners_and_finds_the_dead(case: LiveCase) -> None:
    (first,) = case.provisioners
    case.start_provisioner()
    names = set(names_of(case))
    os.kill(first.pid, signal.SIGKILL)
    case.store.forget()
    assert case.store.provisioners.serving(case.host)
    case.request(nworkers=1)
    wait_until(lambda: set(names_of(case)) < names, 20, what="the dead one is not alive")
    (alive,) = names_of(case)
    wait_until(
        lambda: (
            case.store.client.smembers("rq:workers") & {f"rq:worker:{name}".encode() for name in names}
            == {f"rq:worker:{alive}".encode()}
        ),
        20,
        what="RQ knows it no more either",
    )
