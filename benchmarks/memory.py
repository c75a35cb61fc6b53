"""Memory per idle worker, beside ``rq worker-pool`` and ``rq worker``.

``python benchmarks/memory.py [--runs 5] [--workers 8]``

PSS: a process's own pages and its share of those that it shares with others; N workers cost N times that. Each system
runs alone, so that nobody shares pages with a competitor; *after jobs*: each worker has run some.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.memory import Footprint, descendants, footprint
from harness.peers import end
from harness.report import Report, arguments, median, spread
from rq import Queue
from rq.worker import Worker
from support.cases import LiveCase
from support.servers import Server
from support.waiting import wait_until

JOBS_PER_WORKER = 20
# Long enough for everything that follows a start to have happened.
SETTLE = 1.0

Sample = dict[str, Footprint]


def _work_off(queue: Queue, workers: int) -> None:
    jobs = [queue.enqueue("time.sleep", 0.005) for _ in range(JOBS_PER_WORKER * workers)]
    wait_until(lambda: all(job.get_status(refresh=True) == "finished" for job in jobs), 120, what="the jobs end")


def ours(server: Server, workers: int) -> Sample:
    """Workers, their launcher, the provisioner and its fork server."""
    case = LiveCase(server, Path(tempfile.mkdtemp(prefix="gs-bench-")) / "state")
    try:
        provisioner = case.start_provisioner().pid
        case.request(nworkers=workers)
        time.sleep(2 * SETTLE)
        launcher = case.launcher().pid
        idle = footprint(case.pids())
        server_pids = set(descendants(provisioner)) - {launcher, *case.pids()}
        sample = {
            "launcher": footprint([launcher]),
            "provisioner": footprint([provisioner]),
            "fork server": footprint(server_pids),
        }
        _work_off(case.queue(), workers)
        busy = footprint(case.pids())
        case.operations.release(0)
        return {"worker": idle, "worker after jobs": busy} | sample
    finally:
        case.close()


@contextmanager
def _running(*command: str, processes: int) -> Iterator[list[int]]:
    quiet = subprocess.DEVNULL
    started = [
        subprocess.Popen([sys.executable, "-m", "rq.cli", *command], stdout=quiet, stderr=quiet)
        for _ in range(processes)
    ]
    try:
        yield [process.pid for process in started]
    finally:
        end(started)


def _rq(server: Server, workers: int, *command: str, processes: int) -> Sample:
    queue = Queue("bench", connection=server.client())
    with _running(*command, "-u", server.url, "bench", processes=processes) as started:
        wait_until(lambda: len(Worker.all(connection=queue.connection)) == workers, 60, what="the workers are there")
        time.sleep(SETTLE)
        pids = started if processes == workers else list(descendants(started[0]))
        idle = footprint(pids)
        _work_off(queue, workers)
        return {"worker": idle, "worker after jobs": footprint(pids)}


def rq_pool(server: Server, workers: int) -> Sample:
    """Workers of ``rq worker-pool``."""
    return _rq(server, workers, "worker-pool", "-n", str(workers), processes=1)


def rq_workers(server: Server, workers: int) -> Sample:
    """Each a ``rq worker`` of its own."""
    return _rq(server, workers, "worker", processes=workers)


SYSTEMS: dict[str, Callable[[Server, int], Sample]] = {
    "gutscore_rs": ours,
    "rq worker-pool": rq_pool,
    "rq worker": rq_workers,
}


def main() -> None:
    """Measure and report."""
    parser = arguments("Memory per idle worker.", runs=5)
    parser.add_argument("--workers", type=int, default=8, help="workers of each system (default 8)")
    options = parser.parse_args()
    columns = ["system", "process", "PSS MiB, min / median / max", "USS MiB", "RSS MiB"]
    report = Report("memory", f"Memory of {options.workers} idle workers", columns)
    samples: dict[tuple[str, str], list[Footprint]] = {}
    for number in range(options.runs):
        for name, measure in SYSTEMS.items():
            server = Server("valkey")
            server.start()
            try:
                report.servers = [server.version()]
                for process, found in measure(server, options.workers).items():
                    samples.setdefault((name, process), []).append(found)
            finally:
                server.stop()
        print(f"round {number + 1} of {options.runs}", file=sys.stderr)
    for (name, process), found in samples.items():
        pss, uss, rss = ([getattr(one, field) for one in found] for field in ("pss", "uss", "rss"))
        cells = [name, process, spread(pss, "{:.1f}".format), f"{median(uss):.1f}", f"{median(rss):.1f}"]
        report.add(cells, system=name, process=process, pss=pss, uss=uss, rss=rss)
    report.show()
    report.write(options.json)


if __name__ == "__main__":
    main()
