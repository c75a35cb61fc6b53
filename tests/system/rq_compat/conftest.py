"""Every test here runs against RQ's own worker and against ours: what differs is a fault of ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.rq_workers import OURS, STOCK, RqSite
from support.servers import Server


@pytest.fixture(params=[STOCK, OURS], ids=["rq", "ours"])
def site(shared_server: Server, request: pytest.FixtureRequest) -> Iterator[RqSite]:
    connection = shared_server.client()
    yield RqSite(shared_server, connection, request.param)
    left = [key for key in connection.keys("rq:*") if b":execution" in key]
    connection.flushall()
    connection.close()
    assert left == []
