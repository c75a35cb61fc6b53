"""Several hosts, one Redis: requested here, started there, counted everywhere; cut off and healed (rulings 2, 7, 21)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from rq.job import Job, JobStatus
from support import jobs
from support.hosted_cases import HostedCase
from support.network import require_namespaces
from support.processes import Stopwatch
from support.waiting import holds_for, wait_until

from gutscore_rs.errors import NoProvisionerError
from gutscore_rs.store.records import State

HOST_LOST = 15.0
BACK = 12.0


@pytest.fixture
def case(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[HostedCase]:
    require_namespaces()
    hosted = HostedCase(tmp_path, getattr(request, "param", ("node-a", "node-b")))
    yield hosted
    hosted.close()


def words(file: Path) -> list[str]:
    return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []


def finished(some: list[Job]) -> bool:
    return all(job.get_status(refresh=True) is JobStatus.FINISHED for job in some)


def results(case: HostedCase, some: list[Job]) -> Counter[str]:
    """Entries in RQ's result streams: one for each time that a job was booked as finished."""
    return Counter({job.id: case.store.client.xlen(f"rq:results:{job.id}") for job in some})


def test_requested_on_one_host_started_on_another_and_seen_from_both(case: HostedCase, tmp_path: Path) -> None:
    toml = tmp_path / "case.toml"
    toml.write_text(
        '[case]\nname = "test"\n[resource]\nbackend = "local"\n[resource.config]\nnworkers = 3\nruntime = 120\n'
        'host = "node-b"\n'
    )
    case.cli("node-a", "request", str(toml), "--wait", "--timeout", "20")
    for node in case.nodes:
        view = case.cli(node, "count", "test")
        assert (view["active"], view["by_host"]) == (3, {"node-b": 3})
        workers = case.cli(node, "workers", "test")["workers"]
        assert {row["host"] for row in workers} == {"node-b"}
        pids = {row["pid"] for row in workers}
    assert (sorted(pids), []) == (case.workers_on("node-b"), case.workers_on("node-a"))
    case.cli("node-a", "release", "test")
    assert case.workers_on("node-b") == []
    assert case.cli("node-b", "status", "test")["resource_sets"][0]["state"] == "released"


def test_hosts_that_share_a_home_keep_their_processes_apart(tmp_path: Path) -> None:
    require_namespaces()
    case = HostedCase(tmp_path, shared_home=True)
    try:
        for wgroup_id, node in enumerate(case.nodes):
            case.request(wgroup_id, node, nworkers=1)
        for wgroup_id, node in enumerate(case.nodes):
            (worker,) = case.store.workers.alive([wgroup_id])
            assert (worker.host, [worker.pid]) == (node, case.workers_on(node))
        # What runs on A is none of B's business: its release sweeps its own host only.
        case.operations.release(1, 20)
        assert (case.store.workers.counts([0, 1]), case.workers_on("node-b")) == ({0: 1, 1: 0}, [])
        assert len(case.workers_on("node-a")) == 1
    finally:
        case.close()


def test_a_request_for_a_host_that_nobody_serves_is_refused_with_those_that_are(case: HostedCase) -> None:
    with pytest.raises(NoProvisionerError, match=r"'node-c' \(served now: node-a, node-b\)"):
        case.request(0, "node-c")
    assert case.store.sets.ids() == []


def test_a_host_that_is_cut_off_leaves_the_count_its_jobs_run_elsewhere_and_healed_it_comes_back(
    case: HostedCase, tmp_path: Path
) -> None:
    marks = tmp_path / "marks"
    case.request(1, "node-b", nworkers=2)
    running = [case.queue().enqueue(jobs.sleep_less_again, 28.0, 0.1, str(tmp_path / f"r{n}")) for n in range(2)]
    wait_until(lambda: all(words(tmp_path / f"r{n}") == ["begin"] for n in range(2)), 10, what="both jobs run on B")
    case.request(0, "node-a", nworkers=2)
    case.hosts["node-b"].cut()
    cut = Stopwatch()
    waiting = [case.queue().enqueue(jobs.sleep, 0.05, str(marks)) for _ in range(20)]
    wait_until(lambda: case.cli("node-a", "count", "test")["by_host"] == {"node-a": 2}, HOST_LOST, what="B is gone")
    wait_until(lambda: finished(running + waiting), HOST_LOST + 5 - cut.seconds, what="its jobs ran on A")
    gone = [event.fields for event in case.store.history.lost(100)]
    assert {(row["host"], row["reason"].split(":")[0]) for row in gone} == {("node-b", "its lease ended")}
    case.hosts["node-b"].heal()
    healed = Stopwatch()
    case.wait_count(1, 2, BACK)
    assert healed.seconds < BACK
    holds_for(
        lambda: case.store.workers.count(1) == 2, 5.0, what="the same two are counted, nobody twice", interval=0.2
    )
    case.operations.release(0)
    more = [case.queue().enqueue(jobs.sleep, 0.01) for _ in range(6)]
    wait_until(lambda: finished(more), 60, what="B's workers take jobs again, once their old ones are done")
    assert set(results(case, running + waiting + more).values()) == {1}
    assert [words(tmp_path / f"r{n}").count("begin") for n in range(2)] == [2, 2]
    assert words(marks).count("begin") == 20


def test_a_cut_shorter_than_a_lease_changes_nothing(case: HostedCase, tmp_path: Path) -> None:
    case.request(1, "node-b", nworkers=2)
    before = case.cli("node-a", "workers", "test")["workers"]
    job = case.queue().enqueue(jobs.sleep, 8.0, str(tmp_path / "marks"))
    wait_until(lambda: words(tmp_path / "marks") == ["begin"], 10, what="the job runs")
    case.hosts["node-b"].cut()
    holds_for(lambda: case.store.workers.count(1) == 2, 5.0, what="both are counted", interval=0.2)
    case.hosts["node-b"].heal()
    holds_for(lambda: case.store.workers.count(1) == 2, 10.0, what="both are counted still", interval=0.2)
    wait_until(lambda: finished([job]), 20, what="the job finished")
    after = case.cli("node-a", "workers", "test")["workers"]
    assert {row["pid"] for row in after} == {row["pid"] for row in before}
    assert words(tmp_path / "marks") == ["begin", "end"]
    assert case.store.history.lost(10) == []


def test_a_server_that_is_cut_off_from_all_costs_no_job_and_no_worker(case: HostedCase, tmp_path: Path) -> None:
    for wgroup_id, node in enumerate(case.nodes):
        case.request(wgroup_id, node, nworkers=1)
    running = [case.queue().enqueue(jobs.sleep, 12.0, str(tmp_path / f"r{n}")) for n in range(2)]
    wait_until(lambda: all(words(tmp_path / f"r{n}") == ["begin"] for n in range(2)), 10, what="a job runs on each")
    case.hosts["server"].cut()
    wait_until(lambda: case.store.workers.counts([0, 1]) == {0: 0, 1: 0}, 20, what="nobody could renew a lease")
    case.hosts["server"].heal()
    for wgroup_id in range(2):
        case.wait_count(wgroup_id, 1, BACK)
    wait_until(lambda: finished(running), 30, what="the results came through")
    assert [words(tmp_path / f"r{n}") for n in range(2)] == [["begin", "end"]] * 2
    assert set(results(case, running).values()) == {1}


def test_a_release_goes_on_when_its_host_is_back(case: HostedCase) -> None:
    case.request(1, "node-b", nworkers=2)
    case.hosts["node-b"].cut()
    case.operations.begin_release(1)
    wait_until(lambda: case.store.workers.count(1) == 0, HOST_LOST, what="its workers are not counted")
    assert case.store.sets.get(1).state is State.RELEASING  # type: ignore[union-attr]
    case.hosts["node-b"].heal()
    wait_until(lambda: case.operations.is_released(1), 20, what="the set is released")
    assert case.workers_on("node-b") == []


def test_a_host_that_is_powered_off_is_gone_in_time_and_its_set_says_why(case: HostedCase, tmp_path: Path) -> None:
    case.request(1, "node-b", nworkers=2, runtime=40)
    lost = case.queue().enqueue(jobs.sleep_less_again, 60.0, 0.1, str(tmp_path / "marks"))
    wait_until(lambda: words(tmp_path / "marks") == ["begin"], 10, what="the job runs")
    case.request(0, "node-a", nworkers=1)
    case.hosts["node-b"].power_off()
    off = Stopwatch()
    wait_until(lambda: case.store.workers.count(1) == 0, HOST_LOST, what="its workers are not counted")
    wait_until(lambda: finished([lost]), HOST_LOST + 5 - off.seconds, what="its job ran on A")
    wait_until(lambda: case.store.provisioners.serving("node-b") == [], 20, what="nobody serves B")
    with pytest.raises(NoProvisionerError, match="node-b"):
        case.request(2, "node-b")
    reasons = {event.fields["reason"] for event in case.store.history.lost(10)}
    assert reasons == {"its lease ended: host lost, cut off, or launcher stopped"}


def test_a_host_that_boots_again_gets_its_set_back_for_what_is_left_of_its_runtime(case: HostedCase) -> None:
    case.request(1, "node-b", nworkers=2)
    before = case.store.sets.get(1)
    assert before is not None
    case.hosts["node-b"].power_off()
    wait_until(lambda: case.store.workers.count(1) == 0, HOST_LOST, what="its workers are not counted")
    case.boot("node-b")
    case.wait_count(1, 2, HOST_LOST)
    after = case.store.sets.get(1)
    assert after is not None
    assert (after.state, after.deadline, after.launches) == (State.ACTIVE, before.deadline, 2)
    assert len(case.workers_on("node-b")) == 2
    assert ("requested", "its host node-b was booted again") in case.whys(1)


@pytest.mark.parametrize("case", [("node-a", "node-b", "node-c")], indirect=True)
def test_three_provisioners_on_three_hosts_each_killed_in_a_request_and_in_a_release(case: HostedCase) -> None:
    for wgroup_id, node in enumerate(case.nodes):
        case.request(wgroup_id, node, nworkers=2, wait=False)
        case.kill_provisioner(node)
    for node in case.nodes:
        case.start_provisioner(node)
    for wgroup_id, node in enumerate(case.nodes):
        case.wait_count(wgroup_id, 2, 30)
        assert len(case.workers_on(node)) == 2
    for wgroup_id, node in enumerate(case.nodes):
        case.operations.begin_release(wgroup_id)
        case.kill_provisioner(node)
    wait_until(lambda: not any(case.workers_on(node) for node in case.nodes), 20, what="launchers end without them")
    for node in case.nodes:
        case.start_provisioner(node)
    wait_until(lambda: all(map(case.operations.is_released, range(3))), 30, what="all sets are released")


def test_another_host_takes_over_what_one_is_enough_for(case: HostedCase) -> None:
    duties = ("reaper", "reconciler")

    def owners() -> set[str]:
        found = [case.store.client.get(case.store.keys.lease(duty)) for duty in duties]
        return {(owner or b"/").decode().split("/")[0] for owner in found}

    case.kill_provisioner("node-a")
    wait_until(lambda: owners() == {"node-b"}, 10, what="B has the duties")
    case.start_provisioner("node-a")
    case.kill_provisioner("node-b")
    wait_until(lambda: owners() == {"node-a"}, 10, what="A has them")
