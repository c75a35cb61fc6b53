"""CPUs, GPUs, thread counts and random numbers of workers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support import jobs
from support.cases import LiveCase
from support.waiting import wait_until

from gutscore_rs.store.records import State
from gutscore_rs_workers.affinity import THREAD_VARIABLES

CPUS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
needs_two_cpus = pytest.mark.skipif(len(CPUS) < 2, reason="needs two CPUs and CPU affinity")


def from_every_worker(case: LiveCase, function: Any, *args: Any, nworkers: int) -> list[Any]:
    """What a function returns on each worker, by enough calls that each gets one."""
    found: dict[int, Any] = {}

    def ask() -> bool:
        done = case.tasks.as_completed(
            [case.queue().enqueue(jobs.with_pid, function, *args) for _ in range(nworkers)], 20
        )
        found.update(job.return_value() for job in done)
        return len(found) == nworkers

    wait_until(ask, 20, what=f"{nworkers} workers answered")
    return list(found.values())


@needs_two_cpus
def test_bound_workers_share_no_cpu_and_what_is_not_there_is_refused_with_numbers(case: LiveCase) -> None:
    case.request(0, nworkers=1, cpus_per_worker=1)
    (first,) = from_every_worker(case, jobs.affinity, nworkers=1)
    assert len(first) == 1
    case.request(1, nworkers=1, cpus_per_worker=1)
    sets = from_every_worker(case, jobs.affinity, nworkers=2)
    assert sorted(cpu for cpus in sets for cpu in cpus) == CPUS[:2]

    many = len(CPUS) - 1
    case.request(2, nworkers=many, cpus_per_worker=1, wait=False)
    wait_until(lambda: case.state_of(2) is State.FAILED, 10, what="the third set failed")
    error = case.error_of(2)
    assert f"needs {many} CPUs" in error
    assert f"lets us use {len(CPUS)}, of which {len(CPUS) - 2} are free" in error
    assert "held by: resource set 0 of case test, resource set 1 of case test" in error
    assert "oversubscribe" in error
    case.request(2, nworkers=many, cpus_per_worker=1, oversubscribe=True)
    # What a released set held is free again.
    case.operations.release(0)
    case.operations.release(2)
    case.request(3, nworkers=1, cpus_per_worker=1)


@needs_two_cpus
def test_two_workers_of_one_set_are_bound_apart(case: LiveCase) -> None:
    case.request(nworkers=2, cpus_per_worker=1)
    assert sorted(from_every_worker(case, jobs.affinity, nworkers=2)) == [[cpu] for cpu in CPUS[:2]]


def test_gpus_of_an_inherited_list_are_spread_over_the_workers(case: LiveCase) -> None:
    case.request(nworkers=2, gpus_per_worker=2, env={"CUDA_VISIBLE_DEVICES": "3,5,GPU-8a,7,9"})
    seen = from_every_worker(case, jobs.environment, "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", nworkers=2)
    assert sorted(one["CUDA_VISIBLE_DEVICES"] for one in seen) == ["3,5", "GPU-8a,7"]
    assert all(one["CUDA_VISIBLE_DEVICES"] == one["ROCR_VISIBLE_DEVICES"] for one in seen)
    case.request(1, nworkers=1, gpus_per_worker=2, env={"CUDA_VISIBLE_DEVICES": "3,5,GPU-8a,7,9"}, wait=False)
    wait_until(lambda: case.state_of(1) is State.FAILED, 10, what="the second set failed")
    assert "needs 2 GPUs; this host lets us use 5, of which 1 are free" in case.error_of(1)


def test_thread_counts_match_the_cpus_and_can_be_overridden(case: LiveCase) -> None:
    case.request(0, nworkers=1)
    (seen,) = from_every_worker(case, jobs.environment, *THREAD_VARIABLES, nworkers=1)
    assert seen == dict.fromkeys(THREAD_VARIABLES, "1")
    case.operations.release(0)
    case.request(0, nworkers=1, cpus_per_worker=2, oversubscribe=True, env={"MKL_NUM_THREADS": "7"})
    (seen,) = from_every_worker(case, jobs.environment, *THREAD_VARIABLES, nworkers=1)
    assert seen == dict.fromkeys(THREAD_VARIABLES, "2") | {"MKL_NUM_THREADS": "7"}


def test_no_two_workers_draw_the_same_random_numbers(case: LiveCase, tmp_path: Path) -> None:
    # numpy is loaded before the workers are forked: its generator would be copied as it stands.
    (tmp_path / "sitecustomize.py").write_text("import numpy, random; numpy.random.random(); random.random()")
    case.request(nworkers=3, env={"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"})
    draws = from_every_worker(case, jobs.random_numbers, nworkers=3)
    assert len({draw[0] for draw in draws}) == 3
    assert len({draw[1] for draw in draws}) == 3
