"""Servers that are down, closed, read-only, full, old: each is said in our own words, with what to do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from support.records import NODE, expire, registered, requested, spec
from support.servers import Server

from gutscore_rs.access import Access
from gutscore_rs.errors import StoreError, StoreUnavailableError, StoreUnsuitableError
from gutscore_rs.store import Store
from gutscore_rs.store.connection import connect, describe, inspect_server, translated
from gutscore_rs.store.workers import Departure


class FakeClient:
    """A client whose server says of itself what a test wants."""

    def __init__(self, **info: Any) -> None:
        self._info = {"redis_version": "7.0.15", "role": "master", "aof_enabled": 1} | info

    def info(self) -> dict[str, Any]:
        return self._info


def facts(**info: Any) -> Any:
    return inspect_server(FakeClient(**info), "here")  # type: ignore[arg-type]


@pytest.fixture
def own(any_server: Server) -> Iterator[Server]:
    """A server that a test may close or fill, of either product."""
    made = Server(any_server.product)
    made.start()
    yield made
    made.stop()


def store_at(server: Server, **options: Any) -> Store:
    return Store.open(Access.new("case", socket=str(server.socket), **options), timeout=1.0, retries=0)


def test_a_real_server_is_what_it_says(any_server: Server) -> None:
    store = store_at(any_server)
    found = store.inspect()
    assert found.product == any_server.product
    assert found.warnings == ()
    assert found.run_id == store.run_id()
    assert abs(store.time() - time.time()) < 5
    store.close()


def test_nobody_there_is_unavailable_and_transient(tmp_path: Path) -> None:
    for access in (Access.new("c", socket=str(tmp_path / "s")), Access.new("c", url="redis://127.0.0.1:1/0")):
        store = Store.open(access, timeout=0.5, retries=1)
        with pytest.raises(StoreUnavailableError, match="does not answer") as caught:
            store.ping()
        assert caught.value.transient
        assert describe(access) in str(caught.value)


def test_a_server_that_hangs_is_unavailable(own: Server) -> None:
    store = Store.open(Access.new("c", socket=str(own.socket)), timeout=0.2, retries=0)
    store.ping()
    own.signal(19)
    with pytest.raises(StoreUnavailableError):
        store.sets.request(0, spec(), server=NODE, requester=None, timeout=60.0)
    own.signal(18)


def test_a_server_that_hangs_is_given_up_in_time_however_many_retries_are_left(own: Server) -> None:
    store = Store.open(Access.new("c", socket=str(own.socket)), timeout=0.3, retries=50, patience=1.0)
    store.ping()
    own.signal(19)
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        store.time()
    # The patience, one attempt that was under way then, and room for a busy machine; without a bound it is half a minute.
    assert time.monotonic() - began < 8
    own.signal(18)


def test_a_restarted_server_is_used_again_and_gets_the_scripts_again(own: Server) -> None:
    store = Store.open(Access.new("case", socket=str(own.socket)), timeout=2.0)
    requested(store, 0)
    before = store.run_id()
    own.restart()
    requested(store, 1)
    assert store.sets.ids() == [0, 1]
    assert store.run_id() != before
    store.client.script_flush()
    requested(store, 2)


def test_passwords_are_asked_for_checked_and_never_shown(own: Server) -> None:
    own.client().config_set("requirepass", "s3cret")
    for password in (None, "wr0ng"):
        store = store_at(own, password=password)
        with pytest.raises(StoreUnsuitableError, match="refuses us") as caught:
            store.ping()
        assert "s3cret" not in str(caught.value)
        assert "wr0ng" not in str(caught.value)
    assert store_at(own, password="s3cret").ping()


def test_a_user_without_rights_is_told_to_look_at_the_acl(own: Server) -> None:
    own.client().execute_command("ACL", "SETUSER", "poor", "on", ">pw", "+ping")
    store = store_at(own, username="poor", password="pw")
    with pytest.raises(StoreUnsuitableError, match="ACL"):
        store.sets.ids()
    with pytest.raises(StoreUnsuitableError, match="ACL"):
        requested(store)


def test_a_replica_is_refused(own: Server, any_server: Server) -> None:
    own.client().execute_command("REPLICAOF", "127.0.0.1", "1")
    store = store_at(own)
    with pytest.raises(StoreUnsuitableError, match=r"is a (slave|replica).*primary"):
        store.inspect()
    with pytest.raises(StoreUnsuitableError, match="read-only"):
        store.sets.request(0, spec(), server=NODE, requester=None, timeout=60.0)


def test_a_full_server_writes_nothing_and_says_so(own: Server) -> None:
    store = store_at(own)
    store.ping()
    own.client().config_set("maxmemory", "1")
    with pytest.raises(StoreUnavailableError, match="out of memory"):
        store.sets.request(0, spec(), server=NODE, requester=None, timeout=60.0)
    own.client().config_set("maxmemory", "0")
    assert store.client.dbsize() == 0


def test_on_a_full_server_the_living_still_count_and_the_dead_still_go(own: Server) -> None:
    store = store_at(own)
    members = [one.member for one in registered(store)]
    expire(store, members)
    own.client().config_set("maxmemory", "1")
    assert store.workers.beat(0, 1, NODE, "token:nonce:", members)[0] == "ok"
    assert store.workers.count(0) == 2
    assert store.workers.leave(0, [Departure(members[0], NODE, 1, "killed")]) == 1
    assert store.workers.count(0) == 1
    own.client().config_set("maxmemory", "0")


@pytest.mark.parametrize("place", ["", "Command # 1 (SADD a b) of pipeline caused error: "])
def test_a_disk_that_refuses_is_transient(own: Server, place: str) -> None:
    def misconf() -> None:
        raise redis.ResponseError(f"{place}MISCONF Errors writing to the AOF file: No space left on device")

    with pytest.raises(StoreUnavailableError, match="disk is full"), translated("here"):
        misconf()


@pytest.mark.parametrize(
    "info",
    [
        {"redis_version": "6.2.9"},
        {"redis_version": "7.2.4", "valkey_version": "7.1.0"},
        {"redis_version": ""},
        {"redis_version": "garbage"},
    ],
)
def test_a_server_that_is_too_old_is_refused_by_its_own_name_and_version(info: dict[str, str]) -> None:
    with pytest.raises(StoreUnsuitableError, match="or newer is needed"):
        facts(**info)


@pytest.mark.parametrize(
    "info",
    [
        {"redis_version": "7.0.0"},
        {"redis_version": "8.0.1"},
        {"redis_version": "10.1"},
        {"redis_version": "7.2.4", "valkey_version": "9.1.2"},
    ],
)
def test_a_server_that_is_new_enough_serves(info: dict[str, str]) -> None:
    assert facts(**info).version == (info.get("valkey_version") or info["redis_version"])


def test_a_cluster_node_is_refused() -> None:
    with pytest.raises(StoreUnsuitableError, match="cluster"):
        facts(cluster_enabled=1)


def test_settings_that_put_data_at_risk_are_named() -> None:
    assert facts().warnings == ()
    assert "appendonly" in facts(aof_enabled=0).warnings[0]
    assert "noeviction" in facts(maxmemory=100, maxmemory_policy="allkeys-lru").warnings[0]
    assert facts(maxmemory=0, maxmemory_policy="allkeys-lru").warnings == ()


def test_an_error_of_a_command_names_where() -> None:
    with pytest.raises(StoreError, match="here refused"), translated("here"):
        raise redis.ResponseError("WRONGTYPE")


def test_connections_carry_the_name_they_were_given(any_server: Server) -> None:
    client = connect(Access.new("c", url=any_server.url), name="who-am-i")
    assert client.client_getname() in (b"who-am-i", "who-am-i")
    client.close()


def test_access_without_an_address_is_refused() -> None:
    with pytest.raises(StoreUnsuitableError, match="neither"):
        connect(Access("c", None, None, None, None, b"", ""))
