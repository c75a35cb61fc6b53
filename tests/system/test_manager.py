"""ResourceManager: the object that users hold, on a real case."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from support import jobs
from support.cases import SUPPORT, LiveCase
from support.servers import Server
from support.waiting import wait_until

from gutscore_rs import (
    CapacityError,
    ConfigError,
    NoProvisionerError,
    RequestError,
    ResourceManager,
    ResourceSetLocal,
    WorkersNotReadyError,
)
from gutscore_rs.case import Case


def config(name: str = "test", **keys: Any) -> dict[str, Any]:
    return {
        "case": {"name": name},
        "resource": {
            "nwgroups": 2,
            "config": {"nworkers": 2, "runtime": 120, "drain_timeout": 1, "path": [str(SUPPORT)]} | keys,
        },
    }


def open_case(live: LiveCase) -> Case:
    return Case(live.folder, live.host, live.access, live.store)


@pytest.fixture
def manager(case: LiveCase) -> ResourceManager:
    return ResourceManager(config(), case=open_case(case), settings=case.settings)


def test_request_wait_work_release(manager: ResourceManager, case: LiveCase) -> None:
    seen: list[tuple[int, int]] = []
    with manager:
        assert manager.get_nwgroups() == 2
        assert len(manager.request()) == 2
        assert manager.wait_for_workers(30, progress=lambda active, expected: seen.append((active, expected))) == 4
        assert seen[-1] == (4, 4)
        assert manager.count() == 4
        assert {row["resource_set"] for row in manager.workers()} == {0, 1}
        assert [resource_set.get_nworkers_active() for resource_set in manager.resource_sets()] == [2, 2]
        assert all(resource_set.workers_initiated() for resource_set in manager.resource_sets())
        done = manager.as_completed([manager.enqueue(jobs.square, n) for n in range(30)], timeout=30)
        assert sorted(job.return_value() for job in done) == [n * n for n in range(30)]
    assert manager.count() == 0
    assert [str(case.state_of(n)) for n in (0, 1)] == ["released", "released"]


def test_an_exception_in_the_block_releases_too(manager: ResourceManager) -> None:
    with pytest.raises(KeyError), manager:
        manager.request()
        manager.wait_for_workers(30, progress=False)
        raise KeyError("user's own")
    assert manager.count() == 0


def test_the_predecessors_calls_request_one_set_and_read_it_back(manager: ResourceManager) -> None:
    with manager:
        resource_set = manager.get_resources({"nworkers": 1, "runtime": 60}, 7)
        assert isinstance(resource_set, ResourceSetLocal)
        wait_until(resource_set.workers_initiated, 20, what="its worker is alive")
        copy = manager.instantiate_resource(resource_set.serialize())
        assert copy.get_nworkers_active() == 1
        assert copy.worker_runtime() == 60
        assert manager.instanciate_resource(resource_set.serialize()).get_nworkers() == 1
    assert resource_set.get_nworkers_active() == 0


def test_a_set_alone_finds_the_running_case_by_its_name(case: LiveCase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUTSCORE_RS_STATE_DIR", str(case.state))
    monkeypatch.setenv("GUTSCORE_RS_HOST", case.host)
    resource_set = ResourceSetLocal(3, {"nworkers": 1, "runtime": 60, "drain_timeout": 1})
    resource_set.request({"case": {"name": "test"}})
    wait_until(lambda: resource_set.get_nworkers_active() == 1, 20, what="its worker is alive")
    elsewhere = ResourceSetLocal.from_json(resource_set.serialize())
    elsewhere.release()
    assert resource_set.get_nworkers_active() == 0


def test_a_set_without_a_running_case_says_how_to_start_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUTSCORE_RS_STATE_DIR", str(tmp_path / "nothing"))
    with pytest.raises(RequestError, match="gutscore-rs up nobody"):
        ResourceSetLocal(0, {}).request({"case": {"name": "nobody"}})


def test_two_cases_on_one_redis_never_see_each_other(server: Server, tmp_path: Path) -> None:
    cases = [LiveCase(server, tmp_path / name, name=name, host=f"host-{name}") for name in ("one", "two")]
    try:
        for live in cases:
            live.start_provisioner()
        first, second = (
            ResourceManager(config(live.name), case=open_case(live), settings=live.settings) for live in cases
        )
        with first, second:
            first.request()
            first.wait_for_workers(30, progress=False)
            assert (first.count(), second.count()) == (4, 0)
            second.request()
            second.wait_for_workers(30, progress=False)
            job = second.enqueue(jobs.pid)
            assert next(iter(second.as_completed([job], timeout=20))).return_value() in {
                row["pid"] for row in second.workers()
            }
            first.release()
            assert (first.count(), second.count()) == (0, 4)
    finally:
        for live in cases:
            live.close()


def test_workers_that_do_not_come_are_reported_with_what_each_set_does(
    manager: ResourceManager, case: LiveCase
) -> None:
    os.kill(case.provisioners[0].pid, signal.SIGSTOP)
    try:
        manager.request()
        with pytest.raises(WorkersNotReadyError, match=r"0 of 4 workers are alive after 1 s; set 0: requested"):
            manager.wait_for_workers(1, progress=False)
    finally:
        os.kill(case.provisioners[0].pid, signal.SIGCONT)
    manager.release()


def test_a_set_that_fails_raises_with_its_error(case: LiveCase) -> None:
    manager = ResourceManager(config(cpus_per_worker=4000), case=open_case(case), settings=case.settings)
    manager.request()
    with pytest.raises(RequestError, match="needs 8000 CPUs; this host lets us use"):
        manager.wait_for_workers(30, progress=False)
    assert issubclass(CapacityError, RuntimeError)


def test_a_request_for_a_host_that_nobody_serves_fails_at_once_and_writes_nothing(case: LiveCase) -> None:
    manager = ResourceManager(config(host="elsewhere"), case=open_case(case), settings=case.settings)
    with pytest.raises(NoProvisionerError, match="'elsewhere'"):
        manager.request()
    assert case.store.sets.ids() == []


def test_waiting_for_tasks_ends_when_no_set_is_left_to_run_them(manager: ResourceManager, case: LiveCase) -> None:
    with manager:
        manager.get_resources({"nworkers": 1, "runtime": 3, "drain_timeout": 1, "path": [str(SUPPORT)]}, 0)
        manager.wait_for_workers(20, progress=False)
        job = manager.enqueue(jobs.sleep, 60)
        with pytest.raises(RequestError, match="No resource set is left"):
            list(manager.as_completed([job], timeout=40))


def test_wrong_configurations_are_value_errors_as_with_the_predecessor(manager: ResourceManager) -> None:
    with pytest.raises(ValueError, match="backend"):
        ResourceManager({"resource": {"backend": "WillFail"}})
    with pytest.raises(ValueError, match="nworkers"):
        manager.get_resources({"nworkers": 0}, 0)
    with pytest.raises(ValueError, match="'slurm'"):
        manager.instantiate_resource('{"type": "slurm"}')
    with pytest.raises(ConfigError):
        manager.instantiate_resource("[")


def test_from_toml_reads_a_file(tmp_path: Path) -> None:
    file = tmp_path / "case.toml"
    file.write_text('[case]\nname = "abc"\n[resource]\nnwgroups = 3\n')
    manager = ResourceManager.from_toml(file)
    assert (manager.config.name, manager.get_nwgroups()) == ("abc", 3)


def test_a_manager_that_never_connected_touches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUTSCORE_RS_STATE_DIR", str(tmp_path / "state"))
    with ResourceManager({"resource": {"nwgroups": 2}}) as manager:
        assert manager.get_nwgroups() == 2
    assert not (tmp_path / "state").exists()


def test_the_json_of_a_requested_set_is_plain_and_names_its_case(manager: ResourceManager) -> None:
    with manager:
        resource_set = manager.get_resources({"nworkers": 1}, 0)
        data = json.loads(resource_set.serialize())
        assert (data["schema"], data["type"], data["case"], data["generation"]) == (1, "local", "test", 1)
