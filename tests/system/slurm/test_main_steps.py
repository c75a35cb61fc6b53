"""Sets on a real Slurm: requested, counted, fed, released; nothing is left in its queue."""

from __future__ import annotations

from rq.job import JobStatus
from support import jobs
from support.slurm_cases import SlurmCase
from support.slurm_cluster import SlurmCluster
from support.waiting import wait_until

from gutscore_rs.store.records import State


def test_a_set_is_requested_counted_fed_and_released(slurm_case: SlurmCase, slurm: SlurmCluster) -> None:
    slurm_case.request(nworkers=3)
    record = slurm_case.record()
    assert (record.state, record.server) == (State.ACTIVE, f"slurm-{slurm.name}")
    [job] = slurm.jobs()
    assert (job.job, job.state) == (record.slurm_job, "RUNNING")
    tasks = [slurm_case.queue().enqueue(jobs.square, number) for number in range(20)]
    wait_until(lambda: all(task.get_status() is JobStatus.FINISHED for task in tasks), 20, what="the tasks")
    slurm_case.operations.release(0, timeout=30)
    assert slurm_case.state_of() is State.RELEASED
    assert slurm.jobs() == []
    assert slurm_case.store.workers.count(0) == 0


def test_workers_are_spread_over_nodes_with_an_index_each(slurm_case: SlurmCase) -> None:
    slurm_case.request(nworkers=7, nodes=3)
    assert sorted(slurm_case.hosts().values()) == [2, 2, 3]
    workers = slurm_case.store.workers.alive([0])
    assert sorted(worker.index for worker in workers) == list(range(7))
    assert {worker.slurm["cluster"] for worker in workers} == {slurm_case.slurm.name}
    assert {worker.slurm["job"] for worker in workers} == {slurm_case.record().slurm_job}
    assert {worker.slurm["restart_count"] for worker in workers} == {"0"}
    assert {worker.slurm["node_rank"] for worker in workers} == {"0", "1", "2"}
    assert all(worker.host in ("n1", "n2", "n3", "n4") for worker in workers)


def test_the_environment_of_the_description_is_that_of_the_tasks(slurm_case: SlurmCase) -> None:
    slurm_case.request(nworkers=1, env={"GREETING": "hello $HOME", "PYTHONUTF8": "1"}, cpus_per_worker=2)
    names = ("GREETING", "PYTHONUTF8", "OMP_NUM_THREADS", "SLURM_JOB_ID")
    seen = slurm_case.queue().enqueue(jobs.environment, *names)
    wait_until(lambda: seen.get_status() is JobStatus.FINISHED, 20, what="the task")
    assert list(seen.return_value().values()) == ["hello $HOME", "1", "2", slurm_case.record().slurm_job]


def test_nothing_secret_is_seen_by_others(slurm_case: SlurmCase, slurm: SlurmCluster) -> None:
    slurm_case.request(nworkers=1, env={"API_KEY": "do-not-show-me"})
    job = slurm_case.job_of()
    shown = slurm.run("scontrol", "show", "job", job) + slurm.run("scontrol", "write", "batch_script", job, "-")
    secrets = ["do-not-show-me", slurm_case.access.signing_key.hex(), slurm_case.access.key_id]
    assert [secret for secret in secrets if secret in shown] == []
