"""How jobs end on a cluster, and what becomes of their sets: cancelled, preempted, requeued, nodes lost, time over."""

from __future__ import annotations

import os
import signal

from rq.job import JobStatus
from support import jobs
from support.slurm_cases import SlurmCase
from support.slurm_cluster import SlurmCluster
from support.waiting import holds_for, wait_until

from gutscore_rs.store.records import State


def test_a_job_cancelled_from_outside_ends_the_set_with_that_reason(slurm_case: SlurmCase, slurm: SlurmCluster) -> None:
    slurm_case.request()
    slurm.run("scancel", slurm_case.job_of())
    record = slurm_case.wait_state(0, State.FAILED)
    assert "CANCELLED" in record.error
    wait_until(lambda: slurm_case.store.workers.count(0) == 0, 15, what="no worker is counted")


def test_a_job_cancelled_while_it_waits_ends_the_set(slurm_case: SlurmCase, slurm: SlurmCluster) -> None:
    slurm.submit("sleep 600", "--nodes=4", "--exclusive")
    slurm_case.request(wait=False)
    slurm_case.wait_state(0, State.PENDING)
    slurm.run("scancel", slurm_case.job_of())
    assert "CANCELLED" in slurm_case.wait_state(0, State.FAILED).error


def test_a_preempted_set_is_submitted_again_for_what_is_left_of_its_runtime(
    slurm_case: SlurmCase, slurm: SlurmCluster
) -> None:
    slurm_case.request(partition="preempt", runtime=600)
    first, deadline = slurm_case.job_of(), slurm_case.record().deadline
    other = slurm.submit("sleep 3", "--nodes=4", "--exclusive")
    wait_until(lambda: slurm.states().get(first) in ("PREEMPTED", "CANCELLED"), 30, what="it is preempted")
    assert slurm.states()[first] == "PREEMPTED"
    wait_until(lambda: slurm_case.record().slurm_job not in ("", first), 20, what="another job")
    assert any("PREEMPTED" in why for _, why in slurm_case.whys())
    wait_until(lambda: slurm.states().get(other) == "COMPLETED", 30, what="the others' job")
    slurm_case.wait_active(0, 2, 30)
    assert abs(slurm_case.record().deadline - deadline) < 90


def test_a_requeued_job_brings_the_set_back_and_counts_nobody_twice(slurm_case: SlurmCase, slurm: SlurmCluster) -> None:
    slurm_case.request(extra_directives={"requeue": True})
    job, before = slurm_case.job_of(), slurm_case.pids()
    counts = []
    slurm.run("scontrol", "requeue", job)

    def is_back() -> bool:
        counts.append(slurm_case.store.workers.count(0))
        return slurm_case.record().token.endswith(f".{job}r1") and counts[-1] == 2

    wait_until(lambda: slurm.states().get(job) == "PENDING", 30, what="it waits again")
    wait_until(lambda: slurm_case.state_of() is State.PENDING, 10, what="so does the set")
    assert "requeued" in slurm_case.whys()[-1][1]
    # Slurm would wait for two minutes before the job begins again.
    slurm.run("scontrol", "update", f"jobid={job}", "StartTime=now")
    wait_until(is_back, 30, what="the second start has its workers", interval=0.1)
    assert max(counts) <= 2
    assert set(slurm_case.pids()).isdisjoint(before)
    assert {worker.slurm["restart_count"] for worker in slurm_case.store.workers.alive([0])} == {"1"}


def test_a_node_that_fails_takes_its_workers_out_of_the_count_and_their_jobs_to_others(
    slurm_case: SlurmCase, slurm: SlurmCluster
) -> None:
    slurm_case.request(0, nworkers=1, nodes=1)
    lost = next(iter(slurm_case.hosts(0)))
    task = slurm_case.queue().enqueue(jobs.sleep, 3.0)
    wait_until(lambda: task.get_status() is JobStatus.STARTED, 10, what="a task runs on the node")
    slurm_case.request(1, nworkers=1, extra_directives={"exclude": lost})
    slurm.fail_node(lost)
    wait_until(lambda: slurm_case.store.workers.count(0) == 0, 15, what="its worker leaves the count")
    wait_until(lambda: task.get_status() is JobStatus.FINISHED, 20, what="its task is done elsewhere")
    wait_until(
        lambda: any("NODE_FAIL" in why for _, why in slurm_case.whys(0)), 40, what="Slurm's word is the set's reason"
    )
    slurm_case.wait_active(0, 1, 40)
    assert next(iter(slurm_case.hosts(0))) != lost


def test_killing_slurmd_alone_changes_nothing(slurm_case: SlurmCase, slurm: SlurmCluster) -> None:
    slurm_case.request(nworkers=1)
    [node] = slurm_case.hosts()
    workers = slurm_case.pids()
    slurm.kill(node)
    holds_for(lambda: slurm_case.pids() == workers, 5.0, what="its workers live on", interval=0.5)
    slurm.start(node)


def test_a_drained_node_keeps_its_workers(slurm_case: SlurmCase, slurm: SlurmCluster) -> None:
    slurm_case.request(nworkers=1)
    [node] = slurm_case.hosts()
    slurm.run("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    try:
        holds_for(lambda: slurm_case.store.workers.count(0) == 1, 3.0, what="its worker counts", interval=0.5)
        assert slurm_case.state_of() is State.ACTIVE
    finally:
        slurm.run("scontrol", "update", f"nodename={node}", "state=resume")


def test_a_launcher_that_is_killed_ends_its_workers_and_the_set_says_why(
    slurm_case: SlurmCase, slurm: SlurmCluster
) -> None:
    slurm_case.request(nworkers=1)
    os.kill(slurm_case.launcher().pid, signal.SIGKILL)
    wait_until(lambda: slurm_case.store.workers.count(0) == 0, 15, what="no worker is counted")
    record = slurm_case.wait_state(0, State.EXPIRED, State.FAILED)
    assert slurm_case.job_of() in " ".join(why for _, why in slurm_case.whys())
    assert record.state is State.FAILED


def test_the_runtime_ends_the_workers_before_slurm_does(slurm_case: SlurmCase, slurm: SlurmCluster) -> None:
    slurm_case.request(nworkers=1, runtime=8)
    job = slurm_case.job_of()
    task = slurm_case.queue().enqueue(jobs.sleep, 60)
    wait_until(lambda: task.get_status() is JobStatus.STARTED, 10, what="a task runs")
    slurm_case.wait_state(0, State.EXPIRED, timeout=20)
    wait_until(lambda: slurm.states().get(job) == "COMPLETED", 20, what="the job ends by itself, not by TIMEOUT")
    assert task.get_status() is JobStatus.QUEUED, "a task that the deadline cuts goes back, and costs no retry"


def test_the_deadline_follows_the_limit_of_the_job(slurm_case: SlurmCase, slurm: SlurmCluster) -> None:
    slurm_case.request(nworkers=1, runtime=120)
    before = slurm_case.record().deadline
    slurm.run("scontrol", "update", f"jobid={slurm_case.job_of()}", "TimeLimit=30")
    wait_until(lambda: slurm_case.record().deadline > before + 1500, 15, what="the deadline moves")


def test_a_script_that_fails_before_its_launcher_says_so(slurm_case: SlurmCase) -> None:
    slurm_case.request(pre_cmd_list=["echo no such module >&2", "exit 7"], wait=False)
    record = slurm_case.wait_state(0, State.FAILED)
    assert "exit code 7" in record.error
    assert "logs" in record.error


def test_what_slurm_refuses_fails_with_slurms_words(slurm_case: SlurmCase, slurm: SlurmCluster) -> None:
    slurm_case.request(constraint="nosuch", wait=False)
    assert "Invalid feature specification" in slurm_case.wait_state(0, State.FAILED).error
    assert slurm.jobs() == []


def test_a_job_that_can_never_start_fails_with_the_reason_and_is_cancelled(
    slurm_case: SlurmCase, slurm: SlurmCluster
) -> None:
    slurm.submit("sleep 600", "--nodes=4", "--exclusive")
    slurm_case.request(partition="short", runtime=300, wait=False)
    job = slurm_case.job_of()
    # What an administrator can do after the submission.
    slurm.run("scontrol", "update", "partition=short", "MaxTime=1")
    try:
        assert "PartitionTimeLimit" in slurm_case.wait_state(0, State.FAILED).error
        wait_until(lambda: slurm.states().get(job) == "CANCELLED", 15, what="it is cancelled")
    finally:
        slurm.run("scontrol", "update", "partition=short", "MaxTime=10")


def test_over_a_partitions_limit_is_refused_before_anything_is_submitted(
    slurm_case: SlurmCase, slurm: SlurmCluster
) -> None:
    slurm_case.request(partition="short", runtime=3600, wait=False)
    record = slurm_case.wait_state(0, State.FAILED)
    assert "00:10:00" in record.error
    assert "short" in record.error
    assert slurm.jobs() == []


def test_an_unknown_partition_is_named(slurm_case: SlurmCase) -> None:
    slurm_case.request(partition="debgu", wait=False)
    assert "'debug'" in slurm_case.wait_state(0, State.FAILED).error


def test_a_waiting_set_says_why_it_waits(slurm_case: SlurmCase, slurm: SlurmCluster) -> None:
    slurm.submit("sleep 600", "--nodes=4", "--exclusive", "--time=20")
    slurm_case.request(wait=False)
    slurm_case.wait_state(0, State.PENDING)
    wait_until(lambda: "Resources" in slurm_case.record().pending_reason, 15, what="the reason")
    wait_until(lambda: "estimated start 2" in slurm_case.record().pending_reason, 30, what="the estimate")
