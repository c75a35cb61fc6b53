"""Counting and beating at scale: 100,000 simulated workers in 50 resource sets.

``python benchmarks/count_at_scale.py [--runs 5] [--workers 100000] [--sets 50]``

On Redis and on Valkey. *Client*: round trips of one client, beside a bare ZCOUNT of the same sorted set on the same
connection, by turns. *Server*: the time that the server itself spends on a call (``INFO commandstats``). Workers are
registered through the store, as a launcher does it, a thousand at a time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import redis
from harness.report import Report, arguments, median
from support.servers import Server

from gutscore_rs.access import Access
from gutscore_rs.identity import this_process
from gutscore_rs.store import Store
from gutscore_rs.store.records import State, WorkerRecord
from gutscore_rs.store.resource_sets import Attachment
from gutscore_rs.store.workers import Departure

NODE, TOKEN, NONCE = "node-001", "0123456789abcdef", "01234567"
AT_ONCE = 1000
BEAT_OF = 128
CALLS = 1000


@dataclass(frozen=True, slots=True)
class Population:
    """Simulated workers of a case on one server."""

    store: Store
    sets: int
    per_set: int

    def members(self, wgroup_id: int) -> list[str]:
        """Names as launchers make them."""
        return [f"{NODE}/1/{index}/{100000 + index}/8888888/abcdef01/{wgroup_id:08x}" for index in range(self.per_set)]

    def record(self, wgroup_id: int, index: int, member: str) -> WorkerRecord:
        """What a launcher writes of a worker."""
        return WorkerRecord(
            member=member,
            resource_set=wgroup_id,
            index=index,
            host=NODE,
            pid=100000 + index,
            start_ticks=8888888,
            boot_id="abcdef01-2345-6789-abcd-ef0123456789",
            started_at=time.time(),
            rq_name=f"bench.{wgroup_id}.1.{index}.{wgroup_id:08x}",
        )

    def fill(self) -> None:
        """Request, attach and register all sets."""
        for wgroup_id in range(self.sets):
            self.store.sets.request(wgroup_id, _spec(self.per_set), server=NODE, requester=None, timeout=600, seal="")
            record = self.store.sets.get(wgroup_id)
            assert record is not None
            self.store.sets.transition(record, State.SUBMITTING, "simulated", token=TOKEN)
            attached = self.store.sets.attach(
                wgroup_id, generation=1, token=TOKEN, node=NODE, nonce=NONCE, identity=this_process(NODE)
            )
            assert isinstance(attached, Attachment)
            members = self.members(wgroup_id)
            for first in range(0, self.per_set, AT_ONCE):
                some = enumerate(members[first : first + AT_ONCE], first)
                records = [self.record(wgroup_id, index, member) for index, member in some]
                self.store.workers.register(wgroup_id, 1, NODE, owner(), records)

    def beat(self, wgroup_id: int, members: list[str]) -> None:
        """One beat of a launcher."""
        order, _, missing = self.store.workers.beat(wgroup_id, 1, NODE, owner(), members)
        assert (order, missing) == ("ok", [])

    def beat_all(self) -> None:
        """Renew every lease."""
        for wgroup_id in range(self.sets):
            self.beat(wgroup_id, self.members(wgroup_id))


def owner() -> str:
    """As :attr:`Launch.owner`."""
    return f"{TOKEN}:{NONCE}:"


def _spec(nworkers: int) -> dict[str, Any]:
    return {"backend": "local", "nworkers": nworkers, "runtime": 86400, "daemonize": True, "queues": []}


@dataclass(frozen=True, slots=True)
class Timing:
    """Of one kind of call, in microseconds.

    Attributes:
        client: Median round trip.
        floor: Median round trip of the bare ZCOUNT that took turns with it.
        server: Mean time that the server spent on it.
    """

    client: float
    floor: float
    server: float


def timed(client: redis.Redis, call: Callable[[], object], floor: Callable[[], object], command: str) -> Timing:
    """Time a call and the floor by turns: what disturbs this machine disturbs both."""
    trips: dict[bool, list[float]] = {True: [], False: []}
    client.config_resetstat()
    for number in range(2 * CALLS):
        ours = number % 2 == 0
        began = time.perf_counter()
        (call if ours else floor)()
        trips[ours].append(time.perf_counter() - began)
    stats: Any = client.info("commandstats")
    spent = float(stats[f"cmdstat_{command}"]["usec_per_call"])
    return Timing(median(trips[True]) * 1e6, median(trips[False]) * 1e6, spent)


def sweep(population: Population) -> Iterator[float]:
    """Remove the dead of one set in bounded steps; seconds of each."""
    store, wgroup_id = population.store, 0
    while expired := store.workers.expired(wgroup_id, limit=AT_ONCE):
        began = time.perf_counter()
        gone = [Departure(worker.member, worker.host, worker.pid, "simulated") for worker in expired]
        store.workers.leave(wgroup_id, gone, only_expired=True)
        yield time.perf_counter() - began


def measure(report: Report, server: Server, options: argparse.Namespace) -> None:
    """All figures on one server."""
    name = server.version()
    report.servers.append(name)
    store = Store.open(Access.new("bench", url=server.url), name="bench")
    client = store.client
    empty = _used(client)
    population = Population(store, options.sets, options.workers // options.sets)
    population.fill()
    per_worker = (_used(client) - empty) / (population.sets * population.per_set)
    population.beat_all()
    everything = list(range(population.sets))
    assert sum(store.workers.counts(everything).values()) == population.sets * population.per_set
    key, beating = store.keys.live(0), population.members(0)[:BEAT_OF]

    def bare() -> object:
        return client.zcount(key, f"{time.time():.6f}", "+inf")

    steps: dict[str, tuple[Callable[[], object], str]] = {
        "bare ZCOUNT of one set": (bare, "zcount"),
        "count of one set": (lambda: store.workers.count(0), "evalsha"),
        f"count of all {population.sets} sets": (lambda: store.workers.counts(everything), "evalsha"),
        f"beat of {BEAT_OF} workers": (lambda: population.beat(0, beating), "evalsha"),
    }
    rows: dict[str, list[Timing]] = {what: [] for what in steps}
    for number in range(options.runs):
        population.beat_all()
        for what, (call, command) in steps.items():
            rows[what].append(timed(client, call, bare, command))
        print(f"{name}: round {number + 1} of {options.runs}", file=sys.stderr)
    for what, timings in rows.items():
        ratio = median(timing.client / timing.floor for timing in timings)
        seen, spent = median(timing.client for timing in timings), median(timing.server for timing in timings)
        report.add(
            [name, what, f"{seen:.0f}", f"{spent:.1f}", f"{ratio:.2f}"],
            server=name,
            call=what,
            client_us=[timing.client for timing in timings],
            floor_us=[timing.floor for timing in timings],
            server_us=[timing.server for timing in timings],
            ratio=ratio,
        )
    client.zadd(key, dict.fromkeys(population.members(0), 1.0))
    took = list(sweep(population))
    report.add(
        [name, f"sweep of {population.per_set} dead, per step of {AT_ONCE}", f"{median(took) * 1e6:.0f}", "-", "-"],
        server=name,
        call="sweep step",
        client_us=[seconds * 1e6 for seconds in took],
    )
    report.add([name, "memory: bytes per worker", f"{per_worker:.0f} B", "-", "-"], server=name, bytes=per_worker)
    store.close()


def _used(client: redis.Redis) -> int:
    facts: Any = client.info("memory")
    return int(facts["used_memory_dataset"])


def main() -> None:
    """Measure and report."""
    parser = arguments("Counting and beating at scale.", runs=5)
    parser.add_argument("--workers", type=int, default=100_000, help="simulated workers")
    parser.add_argument("--sets", type=int, default=50, help="resource sets")
    options = parser.parse_args()
    columns = ["server", "call", "client us", "server us", "x bare ZCOUNT, client"]
    report = Report("count_at_scale", f"{options.workers} workers in {options.sets} resource sets", columns)
    report.note(f"Medians of {options.runs} rounds of {CALLS} calls, by turns with the bare ZCOUNT.")
    for product in ("redis", "valkey"):
        server = Server(product, append_only=False)
        server.start()
        try:
            measure(report, server, options)
        finally:
            server.stop()
    report.show()
    report.write(options.json)


if __name__ == "__main__":
    main()
