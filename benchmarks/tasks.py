"""Short tasks: how many a second, how long one takes there and back, what they cost the server; beside the peers.

``python benchmarks/tasks.py [--runs 3] [--server redis|valkey|both] [--only NAME,NAME] [--venvs FOLDER]``

Everything runs on this host with two workers and one server without persistence (the peers' usual setting), in turns.
Peers come from PyPI into environments of their own. A peer that fails is a row that says why.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness import ROOT, our_executor
from harness.drains import Drained, drain, our_set, rq_workers
from harness.report import Report, arguments, median, spread
from harness.venvs import default_folder, peer_python, peer_versions
from rq import Queue
from support import jobs
from support.calls import executor_on
from support.cases import LiveCase
from support.servers import Server

PROGRAMS = ROOT / "benchmarks" / "task_peers"
PEER_SECONDS = 150
SIMPLE, RQ_WORKER = "rq SimpleWorker", "ours, RqWorker alone"
SET, SINGLES, EXECUTOR, POOL = "ours, a set", "ours, a set, one job a call", "ours, Executor", "ProcessPoolExecutor"


@dataclass(frozen=True)
class Peer:
    """A program of ``task_peers``.

    Attributes:
        tasks: No-op tasks in a round: about two seconds of its work.
        environment: Variables for it.
    """

    name: str
    program: str
    packages: tuple[str, ...]
    tasks: int
    round_trips: int = 60
    environment: Mapping[str, str] = field(default_factory=dict)


PEERS = (
    Peer(POOL, "pool.py", ("rq", "hiredis"), 20000, 300),
    Peer("bare loop on Redis", "bare_loop.py", ("rq", "hiredis"), 10000, 300),
    Peer("executorlib", "executorlib_peer.py", ("executorlib",), 8000),
    Peer("huey", "huey_peer.py", ("huey", "redis"), 4000),
    Peer("parsl HTEX", "parsl_peer.py", ("parsl",), 1500),
    Peer("celery", "celery_peer.py", ("celery[redis]",), 1500),
    Peer("dask.distributed", "dask_peer.py", ("distributed",), 1000),
    Peer("dramatiq", "dramatiq_peer.py", ("dramatiq[redis]",), 800),
    Peer(SIMPLE, "rq_peer.py", ("rq", "hiredis"), 1200, environment={"KIND": "SimpleWorker"}),
    Peer("rq Worker", "rq_peer.py", ("rq", "hiredis"), 150, 30, environment={"KIND": "Worker"}),
    Peer("rq worker-pool", "rq_peer.py", ("rq", "hiredis"), 150, 30, environment={"KIND": "pool"}),
    Peer("arq", "arq_peer.py", ("arq",), 500),
    Peer("hyperqueue", "hyperqueue_peer.py", ("hyperqueue",), 20, 3, environment={"WARM_UP": "1"}),
)


def run_peer(peer: Peer, server: Server, venvs: Path) -> Mapping[str, float] | str:
    """Its figures, or why there are none."""
    try:
        python = peer_python(venvs, peer.packages[0].partition("[")[0], peer.packages)
    except subprocess.CalledProcessError as error:
        return f"not installed: {(error.stderr or '').strip()[-100:]}"
    with tempfile.TemporaryDirectory(prefix="gs-peer-") as folder:
        environment = os.environ | {
            "SOCKET": str(server.socket),
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(PROGRAMS),
            **peer.environment,
        }
        command = [str(python), str(PROGRAMS / peer.program), "--socket", str(server.socket), "--folder", folder]
        command += ["--tasks", str(peer.tasks), "--round-trips", str(peer.round_trips)]
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            text, _ = process.communicate(timeout=PEER_SECONDS)
        except subprocess.TimeoutExpired:
            text = f"not done after {PEER_SECONDS} s"
        finally:
            _end_session(process)
    server.client().flushall()
    results = [line for line in text.splitlines() if line.startswith("RESULT ")]
    if not results:
        return (text.strip().splitlines() or ["no output"])[-1][:100]
    found: Mapping[str, float] = json.loads(results[0].removeprefix("RESULT "))
    return found


def _end_session(process: subprocess.Popen[str]) -> None:
    """A peer may leave daemons behind: all of its session goes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.wait()


# -- tables -------------------------------------------------------------------------------------------------


def tasks_table(
    servers: tuple[Server, Server], case: LiveCase, peers: tuple[Peer, ...], runs: int, venvs: Path
) -> Report:
    """Submission to last result, efficiency, round trip."""
    columns = ["system", "no-op tasks/s, min / median / max", "efficiency 1 ms", "10 ms", "there and back, ms", "p99"]
    report = Report("tasks", "Tasks with two workers", columns)
    server, theirs = servers
    report.servers.append(server.version())
    found: dict[str, list[Mapping[str, float]]] = {name: [] for name in [EXECUTOR, *(peer.name for peer in peers)]}
    reasons: dict[str, str] = {}
    for number in range(runs):
        found[EXECUTOR].append(our_executor.measure(case, 20000, 300, wgroup_id=number))
        for peer in peers:
            one = run_peer(peer, theirs, venvs)
            if isinstance(one, str):
                reasons[peer.name] = one
            else:
                found[peer.name].append(one)
        print(f"tasks: round {number + 1} of {runs}", file=sys.stderr)
    for name, rows in found.items():
        _add_tasks(report, name, rows, reasons.get(name, ""))
    _compare(report, found)
    versions = {}
    for peer in peers:
        if found[peer.name]:
            python = peer_python(venvs, peer.packages[0].partition("[")[0], peer.packages)
            versions |= peer_versions(python, peer.packages[:1])
    report.note("Peers: " + ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) + ".")
    return report


def _add_tasks(report: Report, name: str, rows: list[Mapping[str, float]], reason: str) -> None:
    if not rows:
        report.add([name, reason, "", "", "", ""], system=name, error=reason)
        return

    def middle(key: str) -> float:
        return median(row[key] for row in rows)

    rates = [row["noop_per_s"] for row in rows]
    cells = [
        name,
        spread(rates, "{:,.0f}".format),
        f"{middle('efficiency_1ms'):.2f}",
        f"{middle('efficiency_10ms'):.2f}",
    ]
    report.add([*cells, f"{middle('round_trip_ms'):.2f}", f"{middle('round_trip_p99_ms'):.2f}"], system=name, runs=rows)


def _compare(report: Report, found: Mapping[str, list[Mapping[str, float]]]) -> None:
    def ratio(key: str, other: str) -> float:
        pairs = zip(found[EXECUTOR], found.get(other, []), strict=False)
        return median(ours[key] / theirs[key] for ours, theirs in pairs)

    if found.get(POOL):
        report.note(
            "Executor beside ProcessPoolExecutor, medians of the ratios within a round: "
            f"{ratio('noop_per_s', POOL):.2f} x its tasks/s, "
            f"{ratio('round_trip_ms', POOL):.1f} x its time there and back."
        )
    others = {name: median(row["noop_per_s"] for row in rows) for name, rows in found.items() if rows}
    floors = (EXECUTOR, POOL, "bare loop on Redis")
    rest = {name: rate for name, rate in others.items() if name not in floors}
    if rest:
        best = max(rest, key=lambda name: rest[name])
        report.note(
            f"The fastest peer, floors aside, is {best}: the executor does {ratio('noop_per_s', best):.1f} x as many."
        )


def drains_table(server: Server, case: LiveCase, runs: int) -> Report:
    """Emptying a queue of RQ jobs, and what it costs the server."""
    columns = [
        "workers",
        "jobs/s, min / median / max",
        "x SimpleWorker",
        "server us/job",
        "commands/job",
        "script calls/job",
        "jobs/s of one server core",
    ]
    report = Report("tasks_drain", "Emptying a queue of no-op RQ jobs, two workers", columns)
    report.servers.append(server.version())
    numbers = iter(range(1000, 10000))
    systems: dict[str, tuple[int, Callable[[], Callable[[], object]]]] = {
        SIMPLE: (2000, lambda: rq_workers(case, "rq.worker.SimpleWorker")),
        RQ_WORKER: (8000, lambda: rq_workers(case, "gutscore_rs_workers.rq_worker.RqWorker")),
        SINGLES: (15000, lambda: our_set(case, next(numbers), batch=1)),
        SET: (30000, lambda: our_set(case, next(numbers))),
    }
    found: dict[str, list[Drained]] = {name: [] for name in systems}
    for number in range(runs):
        for name, (count, make) in systems.items():
            found[name].append(drain(case, make(), count))
        print(f"drains: round {number + 1} of {runs}", file=sys.stderr)
    for name, rows in found.items():
        ratio = median(row.rate / base.rate for row, base in zip(rows, found[SIMPLE], strict=True))
        server_us = median(row.server_us for row in rows)
        report.add(
            [
                name,
                spread([row.rate for row in rows], "{:,.0f}".format),
                f"{ratio:.1f}",
                f"{server_us:.0f}",
                f"{median(row.commands for row in rows):.1f}",
                f"{median(row.calls for row in rows):.3f}",
                f"{1e6 / server_us:,.0f}",
            ],
            system=name,
            rates=[row.rate for row in rows],
            ratio=ratio,
            server_us=server_us,
        )
    return report


def enqueue_table(server: Server, case: LiveCase, runs: int) -> Report:  # noqa: C901 - four ways side by side
    """Putting tasks into the queue."""
    report = Report("tasks_enqueue", "Enqueueing", ["way", "tasks/s, min / median / max"])
    report.servers.append(server.version())
    client = case.store.client
    queue = Queue("test:tasks", connection=client)

    def one_by_one(count: int) -> None:
        for _ in range(count):
            queue.enqueue(jobs.square, 1)

    def rq_many(count: int) -> None:
        queue.enqueue_many([Queue.prepare_data(jobs.square, (1,)) for _ in range(count)])

    def ours_many(count: int) -> None:
        case.tasks.enqueue_many([(jobs.square, (1,))] * count)

    def ours_submit(count: int) -> None:
        with executor_on(case, worker_wait=None) as executor:
            began = time.perf_counter()
            futures = [executor.submit(jobs.square, 1) for _ in range(count)]
            while client.llen("rq:queue:test:tasks") < count:
                time.sleep(0.0005)
            times["submit"] = time.perf_counter() - began
            assert len(futures) == count

    times: dict[str, float] = {}
    ways: dict[str, tuple[int, Callable[[int], None]]] = {
        "rq Queue.enqueue, one by one": (1000, one_by_one),
        "ours, Executor.submit, until all are in Redis": (10000, ours_submit),
        "rq Queue.enqueue_many": (5000, rq_many),
        "ours, Tasks.enqueue_many": (20000, ours_many),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, (count, run) in ways.items():
            client.delete("rq:queue:test:tasks")
            began = time.perf_counter()
            run(count)
            seconds = times.pop("submit", time.perf_counter() - began)
            rates[name].append(count / seconds)
    for name, values in rates.items():
        report.add([name, spread(values, "{:,.0f}".format)], way=name, rates=values)
    names = list(ways)
    for ours, theirs in ((names[1], names[0]), (names[3], names[2])):
        pairs = zip(rates[ours], rates[theirs], strict=True)
        report.note(f"{ours}: {median(a / b for a, b in pairs):.1f} x {theirs}.")
    client.flushall()
    return report


def main() -> None:
    """Measure and report."""
    parser = arguments("Short tasks, beside the peers.", runs=3)
    parser.add_argument("--server", choices=["redis", "valkey", "both"], default="redis")
    parser.add_argument("--only", default="", help="peers whose name has one of these words in it; '-' for none")
    parser.add_argument("--venvs", type=Path, default=default_folder(), help="where peers are installed")
    options = parser.parse_args()
    words = options.only.split(",")
    peers = tuple(peer for peer in PEERS if any(word in peer.name for word in words))
    for product in ("redis", "valkey") if options.server == "both" else (options.server,):
        server, theirs = Server(product, append_only=False), Server(product, append_only=False)
        server.start()
        # Emptied after each peer; ours has its provisioner's registration on the other.
        theirs.start()
        case = LiveCase(server, Path(tempfile.mkdtemp(prefix="gs-bench-")) / "state")
        try:
            case.start_provisioner()
            _publish(drains_table(server, case, options.runs), product, options.json)
            _publish(enqueue_table(server, case, options.runs), product, options.json)
            case.close()
            case = LiveCase(server, Path(tempfile.mkdtemp(prefix="gs-bench-")) / "state", name="tasks")
            case.start_provisioner()
            _publish(tasks_table((server, theirs), case, peers, options.runs, options.venvs), product, options.json)
        finally:
            case.close()
            server.stop()
            theirs.stop()


def _publish(report: Report, product: str, json_file: Path | None) -> None:
    report.name += "" if product == "redis" else f"_{product}"
    report.show()
    report.write(json_file and json_file.with_name(f"{report.name}.json"))


if __name__ == "__main__":
    main()
