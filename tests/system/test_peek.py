"""A look at a queue takes nothing, and notices a connection that died without a word."""

from __future__ import annotations

import selectors
from collections.abc import Iterator

import pytest
import redis
from support.proxy import DroppingProxy
from support.servers import Server

from gutscore_rs_workers import peek as module
from gutscore_rs_workers.peek import QueuePeek


@pytest.fixture
def proxy(server: Server) -> Iterator[DroppingProxy]:
    made = DroppingProxy(server.socket)
    yield made
    made.close()


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as made:
        yield made


@pytest.fixture
def peek(proxy: DroppingProxy, selector: selectors.BaseSelector) -> Iterator[QueuePeek]:
    made = QueuePeek(redis.Redis(unix_socket_path=str(proxy.socket)), "q", selector)
    yield made
    made.close()


def answered(selector: selectors.BaseSelector, seconds: float) -> bool:
    return bool(selector.select(seconds))


def test_it_waits_for_a_job_and_leaves_it_where_it_is(
    server: Server, peek: QueuePeek, selector: selectors.BaseSelector
) -> None:
    peek.arm()
    assert not answered(selector, 0.2)
    with server.client() as client:
        client.rpush("q", "one", "two")
        assert answered(selector, 5)
        assert peek.ready()
        assert client.lrange("q", 0, -1) == [b"one", b"two"]
    assert not peek.armed
    assert not selector.get_map()


def test_one_whose_connection_is_dead_is_made_anew_once_its_answer_is_overdue(
    server: Server,
    proxy: DroppingProxy,
    peek: QueuePeek,
    selector: selectors.BaseSelector,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peek.arm()
    dead = peek.fileno()
    with server.client() as client:
        with proxy.hold():
            client.rpush("q", "one")
            peek.arm()
            assert peek.fileno() == dead, "it is not overdue yet"
            assert not answered(selector, 0.3)
        before = peek._connection
        monkeypatch.setattr(module.time, "monotonic", lambda: float("inf"))
        peek.arm()
        monkeypatch.undo()
        assert peek._connection is not before
        assert answered(selector, 5)
        assert peek.ready()


def test_a_connection_that_was_cut_is_told_and_the_next_look_is_on_a_new_one(
    server: Server, proxy: DroppingProxy, peek: QueuePeek, selector: selectors.BaseSelector
) -> None:
    peek.arm()
    proxy.cut()
    assert answered(selector, 5)
    with pytest.raises((redis.RedisError, OSError)):
        peek.ready()
    assert not selector.get_map()
    with server.client() as client:
        client.rpush("q", "one")
    peek.arm()
    assert answered(selector, 5)
    assert peek.ready()
