"""What every peer program measures: throughput of short tasks and the round trip of one.

A peer calls :func:`measure` with two functions of its own: one that submits many tasks and returns when all results
are there, one that does so for a single task.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable

WARM_UP = int(os.environ.get("WARM_UP", "20"))


def noop(x: int = 0) -> int:
    return x


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", default="", help="Unix socket of the Redis server")
    parser.add_argument("--folder", default=".", help="for files of the peer")
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--round-trips", type=int, default=50)
    return parser.parse_args()


def measure(many: Callable[[str, float, int], None], one: Callable[[], None], options: argparse.Namespace) -> None:
    """Print what was measured as JSON.

    Args:
        many: Called with ``noop`` or ``nap``, the argument, the number of tasks.
        one: Runs one ``noop`` from submission to result.
        options: As :func:`arguments` gives them.
    """
    many("noop", 0, WARM_UP)
    for _ in range(WARM_UP):
        one()
    found: dict[str, object] = {}
    began = time.perf_counter()
    many("noop", 0, options.tasks)
    rate = options.tasks / (time.perf_counter() - began)
    found["noop_per_s"] = rate
    for name, seconds in (("1ms", 0.001), ("10ms", 0.01)):
        # About a second of work for two workers, less for those that are slow.
        count = max(10, min(int(2.0 / seconds), int(rate * 2)))
        began = time.perf_counter()
        many("nap", seconds, count)
        wall = time.perf_counter() - began
        found[f"efficiency_{name}"] = count * seconds / (2 * wall)
    trips = []
    for _ in range(options.round_trips):
        began = time.perf_counter()
        one()
        trips.append(time.perf_counter() - began)
    trips.sort()
    found["round_trip_ms"] = trips[len(trips) // 2] * 1e3
    found["round_trip_p99_ms"] = trips[int(len(trips) * 0.99)] * 1e3
    print("RESULT " + json.dumps(found), flush=True)
