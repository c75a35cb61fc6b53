"""Time to ready: from the request to N workers counted by another process.

``python benchmarks/time_to_ready.py [--runs 7] [--workers 2,8,32]``

Beside it, in the same rounds: the floor (one Python start that imports a launcher's modules, N forks, one Redis write
each), N x ``rq worker``, and ``rq worker-pool -n N``. *warm*: the case's provisioner runs. *cold*: nothing runs but the
server; the clock starts with the provisioner.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from harness.observer import Observer
from harness.peers import end
from harness.report import Report, arguments, median, spread
from support.cases import LiveCase
from support.servers import Server
from support.waiting import wait_until

FLOOR = Path(__file__).parent / "harness" / "fork_floor.py"


def floor(case: LiveCase, observer: Observer, workers: int) -> float:
    """Seconds of the floor."""
    key = "floor"
    case.store.client.delete(key)
    observer.watch("leases", key, workers)
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-P", str(FLOOR), str(case.server.socket), key, str(workers)],
        stdin=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(FLOOR.parent.parent), os.environ.get("PYTHONPATH", "")])},
    )
    seconds = observer.reached() - began
    process.communicate()
    case.store.client.delete(key)
    return seconds


def _request(case: LiveCase, observer: Observer, workers: int, began: float | None = None) -> float:
    observer.watch("leases", case.store.keys.live(0), workers)
    began = began or time.monotonic()
    case.request(nworkers=workers, wait=False)
    seconds = observer.reached() - began
    case.operations.release(0)
    return seconds


def warm(case: LiveCase, observer: Observer, workers: int) -> float:
    """Seconds with a provisioner that runs."""
    return _request(case, observer, workers)


def cold(case: LiveCase, observer: Observer, workers: int) -> float:
    """Seconds from the start of a provisioner."""
    case.kill_provisioners()
    wait_until(lambda: not case.store.provisioners.serving(case.host), 30, what="the old provisioner is forgotten")
    began = time.monotonic()
    case.start_provisioner()
    return _request(case, observer, workers, began)


def _rq(case: LiveCase, observer: Observer, workers: int, *command: str, processes: int) -> float:
    case.store.client.delete("rq:workers")
    observer.watch("members", "rq:workers", workers)
    began = time.monotonic()
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "rq.cli", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(processes)
    ]
    seconds = observer.reached() - began
    end(started)
    return seconds


def rq_workers(case: LiveCase, observer: Observer, workers: int) -> float:
    """Seconds of N x ``rq worker``."""
    return _rq(case, observer, workers, "worker", "-u", case.server.url, "bench", processes=workers)


def rq_pool(case: LiveCase, observer: Observer, workers: int) -> float:
    """Seconds of ``rq worker-pool``."""
    return _rq(case, observer, workers, "worker-pool", "-u", case.server.url, "-n", str(workers), "bench", processes=1)


SYSTEMS: dict[str, Callable[[LiveCase, Observer, int], float]] = {
    "floor: start + N forks + N writes": floor,
    "gutscore_rs, warm": warm,
    "gutscore_rs, cold": cold,
    "rq worker-pool -n N": rq_pool,
    "N x rq worker": rq_workers,
}


def main() -> None:
    """Measure and report."""
    parser = arguments("Time from a request to N workers counted.", runs=7)
    parser.add_argument("--workers", default="2,8,32", help="N, separated by commas")
    parser.add_argument("--only", default="", help="systems whose name has this in it (and the floor)")
    options = parser.parse_args()
    report = Report("time_to_ready", "Time to ready", ["workers", "system", "s, min / median / max", "x floor, median"])
    server = Server("valkey")
    server.start()
    case = LiveCase(server, Path(tempfile.mkdtemp(prefix="gs-bench-")) / "state")
    report.servers.append(server.version())
    chosen = {name: run for name, run in SYSTEMS.items() if run is floor or options.only in name}
    try:
        case.start_provisioner()
        with Observer(server.socket) as observer:
            for workers in map(int, options.workers.split(",")):
                measure(report, case, observer, workers, options.runs, chosen)
    finally:
        case.close()
        server.stop()
    report.note("Ratios are medians of the ratios within a round; rounds take turns between the systems.")
    report.show()
    report.write(options.json)


def measure(
    report: Report,
    case: LiveCase,
    observer: Observer,
    workers: int,
    runs: int,
    systems: dict[str, Callable[[LiveCase, Observer, int], float]],
) -> None:
    """Rounds for one number of workers."""
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    for number in range(runs + 1):
        for name, run in systems.items():
            took = run(case, observer, workers)
            # The first round fills caches and counts for nobody.
            if number:
                seconds[name].append(took)
        print(f"{workers} workers: round {number} of {runs}", file=sys.stderr)
    base = next(iter(seconds.values()))
    for name, values in seconds.items():
        ratio = median(value / ground for value, ground in zip(values, base, strict=True))
        report.add(
            [str(workers), name, spread(values, "{:.3f}".format), f"{ratio:.2f}"],
            workers=workers,
            system=name,
            seconds=values,
            ratio=ratio,
        )


if __name__ == "__main__":
    main()
