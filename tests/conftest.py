"""Fixtures for all tests: own servers, own state folders, and the proof that nothing is left behind."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.cases import LiveCase
from support.servers import Server
from support.slurm_cases import SlurmCase
from support.slurm_cluster import SlurmCluster, needs_slurm

from gutscore_rs.processes import _mark_of, _pids
from gutscore_rs.store import Store

_numbers = itertools.count(1)

# No test asserts on speed, and none leaves a database in the current folder. The check is about fixtures that are
# not made anew for each example; ours need not be.
settings.register_profile(
    "ours",
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("ours")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--slurm-accounting", action="store_true", help="also the tests that need slurmdbd and MariaDB (Debian)"
    )
    parser.addoption("--soak-minutes", type=float, default=1.0, help="how long tests/system/test_soak.py loads a case")


@pytest.fixture
def soak_minutes(request: pytest.FixtureRequest) -> float:
    return float(request.config.getoption("--soak-minutes"))


@pytest.fixture(scope="session", params=["valkey", "redis"])
def any_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A running Valkey, then a running Redis, shared by tests that only read and write keys."""
    server = Server(request.param)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    """A running Valkey, shared by tests that only read and write keys."""
    server = Server("valkey")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def store(any_server: Server) -> Iterator[Store]:
    """A store of a fresh case, on Valkey and on Redis; its keys are gone afterwards."""
    client = any_server.client()
    yield Store(client, f"case{next(_numbers)}", any_server.url)
    client.flushall()
    client.close()


@pytest.fixture
def server() -> Iterator[Server]:
    """A Valkey of the test's own, to be killed and restarted."""
    own = Server("valkey")
    own.start()
    yield own
    own.stop()


@pytest.fixture
def case(server: Server, tmp_path: Path) -> Iterator[LiveCase]:
    """A case with a provisioner of its own, on a server of its own."""
    live = LiveCase(server, tmp_path / "state")
    live.start_provisioner()
    yield live
    live.close()


@pytest.fixture(scope="session")
def slurm_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """A real Slurm of four nodes, shared by the tests of this session; `slurm` is for those that use it."""
    needs_slurm()
    cluster = SlurmCluster(tmp_path_factory.mktemp("slurm") / "cluster")
    yield cluster
    cluster.down()


@pytest.fixture
def slurm(slurm_cluster: SlurmCluster) -> Iterator[SlurmCluster]:
    """The shared Slurm, as it was at first: all daemons up, no job, every node idle."""
    yield slurm_cluster
    slurm_cluster.settle()


@pytest.fixture
def slurm_case(slurm: SlurmCluster, server: Server, tmp_path: Path) -> Iterator[SlurmCase]:
    """A case with a provisioner that submits to the shared Slurm."""
    live = SlurmCase(server, tmp_path / "state", slurm=slurm)
    live.start_provisioner()
    yield live
    live.close()


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """No marked process under the test's folder, and nothing written into the current folder."""
    before = set(os.listdir())
    yield
    left = [pid for pid in _pids() if (_mark_of(pid) or "").startswith(str(tmp_path))]
    assert not left, f"{request.node.name} left processes behind: {left}"
    new = set(os.listdir()) - before - {".pytest_cache", ".hypothesis", ".mypy_cache", ".ruff_cache"}
    assert not new, f"{request.node.name} left files in the current folder: {sorted(new)}"
