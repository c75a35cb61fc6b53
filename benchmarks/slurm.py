"""Slurm: from a request to N workers counted, and the calls of Slurm's programs that it takes.

``python benchmarks/slurm.py [--runs 3] [--peers VENV]``

On a private cluster of four nodes (`scripts/slurm-cluster`). Beside it, in the same rounds: the floor (a bare sbatch,
whose script does one Redis write by redis-cli, as one job or as an array), and submitit, dask-jobqueue and Parsl from
VENV, a Python environment that has them; without it they are installed into a temporary one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.observer import Observer
from harness.report import Report, arguments, median, spread
from support.servers import Server
from support.slurm_cases import SlurmCase
from support.slurm_cluster import SlurmCluster, counting
from support.waiting import wait_until

from gutscore_rs.config import SlurmSection

PEERS = Path(__file__).parent / "harness" / "slurm_peers.py"
PACKAGES = ("submitit", "dask-jobqueue", "parsl")
PROGRAMS = ("sbatch", "squeue", "scancel", "sacct", "scontrol", "sinfo")
# Calls are counted from the request until this long after it, then for the release.
WINDOW = 15.0


@dataclass
class Bench:
    """What all measurements share."""

    folder: Path
    slurm: SlurmCluster
    server: Server
    case: SlurmCase
    observer: Observer
    python: Path
    rounds: int = 0

    @property
    def env(self) -> dict[str, str]:
        return dict(os.environ) | {"SLURM_CONF": str(self.slurm.conf)}

    def fresh(self) -> Path:
        """A folder of its own for each run."""
        self.rounds += 1
        folder = self.folder / f"run-{self.rounds}"
        folder.mkdir()
        return folder


def _bare(bench: Bench, number: int, *options: str, command: str) -> float:
    client = bench.case.store.client
    client.delete("floor")
    bench.observer.watch("members", "floor", number)
    began = time.monotonic()
    bench.slurm.submit(command, *options)
    seconds = bench.observer.reached() - began
    client.delete("floor")
    bench.slurm.settle()
    return seconds


def bare_job(bench: Bench, number: int) -> float:
    """Seconds of one bare job that has as many nodes as our set, with one write per node."""
    nodes = max(1, number // 4)
    write = f"redis-cli -s {bench.server.socket} sadd floor $SLURMD_NODENAME"
    return _bare(bench, nodes, f"--nodes={nodes}", "--ntasks-per-node=1", command=f"srun sh -c '{write}'")


def bare_array(bench: Bench, number: int) -> float:
    """Seconds of a bare array of one-CPU jobs, with one write each."""
    write = f"redis-cli -s {bench.server.socket} sadd floor $SLURM_ARRAY_TASK_ID"
    return _bare(bench, number, f"--array=0-{number - 1}", command=write)


def one_set(bench: Bench, number: int) -> float:
    """Seconds until the workers of one set are counted."""
    case = bench.case
    bench.observer.watch("leases", case.store.keys.live(0), number)
    began = time.monotonic()
    case.request(0, nworkers=number, nodes=max(1, number // 4), runtime=600, wait=False)
    seconds = bench.observer.reached() - began
    case.operations.release(0, timeout=60)
    bench.slurm.settle()
    return seconds


def many_sets(bench: Bench, number: int) -> float:
    """Seconds until each of so many one-worker sets has its worker."""
    case, ids = bench.case, list(range(100, 100 + number))
    began = time.monotonic()
    for wgroup_id in ids:
        case.operations.request(wgroup_id, case.spec(nworkers=1, runtime=600))
    wait_until(lambda: sum(case.store.workers.counts(ids).values()) == number, 90, what="the workers", interval=0.002)
    seconds = time.monotonic() - began
    _release(bench, ids)
    bench.slurm.settle()
    return seconds


def _release(bench: Bench, ids: list[int]) -> None:
    for wgroup_id in ids:
        bench.case.operations.begin_release(wgroup_id)
    wait_until(lambda: all(one.state.ended for one in bench.case.store.sets.all()), 120, what="all are released")


def peer(system: str) -> Callable[[Bench, int], float]:
    """A peer's measurement."""

    def run(bench: Bench, number: int) -> float:
        bench.case.store.client.delete("submitit")
        out = _peer(bench, "ready", system, number, bench.env)
        bench.slurm.settle()
        return float(out)

    return run


def _peer(bench: Bench, what: str, system: str, number: int, env: dict[str, str]) -> str:
    # Parsl looks for its own programs on PATH.
    env = env | {"PATH": f"{bench.python.parent}:{env['PATH']}"}
    command = [bench.python, PEERS, what, system, str(number), bench.server.socket, bench.fresh(), str(WINDOW)]
    done = subprocess.run(
        list(map(str, command)), env=env, cwd=bench.folder, capture_output=True, text=True, check=False, timeout=180
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-300:] or "no word")
    return done.stdout.split()[-1] if done.stdout.split() else ""


SYSTEMS: dict[str, Callable[[Bench, int], float]] = {
    "floor: one bare sbatch, a write per node": bare_job,
    "gutscore_rs, one set": one_set,
    "floor: a bare array, a write per task": bare_array,
    "gutscore_rs, N sets of one worker": many_sets,
    "submitit map_array": peer("submitit"),
    "dask-jobqueue": peer("dask-jobqueue"),
    "Parsl SlurmProvider": peer("parsl"),
}


def measure(report: Report, bench: Bench, number: int, runs: int) -> None:
    """Rounds for one number of workers."""
    seconds: dict[str, list[float]] = {name: [] for name in SYSTEMS}
    for turn in range(runs + 1):
        for name, run in SYSTEMS.items():
            try:
                took = run(bench, number)
            except (RuntimeError, AssertionError, subprocess.TimeoutExpired) as error:
                print(f"{name}, {number}: {str(error)[-300:]}", file=sys.stderr)
                bench.slurm.settle()
                continue
            if turn:
                seconds[name].append(took)
        print(f"{number} workers: round {turn} of {runs}", file=sys.stderr)
    floors = list(seconds.values())
    for name, values in seconds.items():
        ground = floors[0] if name in ("gutscore_rs, one set", next(iter(seconds))) else floors[2]
        ratio = median(values) / median(ground) if values else float("nan")
        shown = spread(values, "{:.2f}".format) if values else "failed"
        report.add([str(number), name, shown, f"{ratio:.2f}"], number=number, system=name, seconds=values, ratio=ratio)


def calls(report: Report, bench: Bench, number: int) -> None:
    """Calls of Slurm's programs for so many sets that wait in the queue, and for their end."""
    log = bench.folder / "calls"
    counted = counting(bench.folder, log)
    path = f"{counted}:{os.environ['PATH']}"
    blocker = bench.slurm.submit("sleep 3600", "--nodes=4", "--exclusive")
    case = bench.case
    case.restart(counted)
    rows: dict[str, Callable[[], object]] = {
        "gutscore_rs": lambda: _our_calls(bench, number),
        **{
            name: lambda name=name: _peer(bench, "calls", name, number, bench.env | {"PATH": path})  # type: ignore[misc]
            for name in PACKAGES
        },
    }
    for name, run in rows.items():
        log.write_text("")
        try:
            run()
            made = {program: log.read_text().split().count(program) for program in PROGRAMS}
            cells = [
                str(made["sbatch"]),
                str(made["squeue"] + made["sacct"]),
                str(made["scancel"]),
                str(sum(made.values())),
            ]
        except (RuntimeError, AssertionError, subprocess.TimeoutExpired) as error:
            print(f"calls of {name}, {number}: {str(error)[-300:]}", file=sys.stderr)
            made, cells = {}, ["failed", "", "", ""]
        report.add([str(number), name, *cells], number=number, system=name, calls=made)
        for job in bench.slurm.jobs("-r"):
            if job.job != blocker:
                bench.slurm.run("scancel", job.job.partition("_")[0], check=False)
    bench.slurm.settle()


def _our_calls(bench: Bench, number: int) -> None:
    ids = list(range(1000, 1000 + number))
    began = time.monotonic()
    for wgroup_id in ids:
        bench.case.operations.request(wgroup_id, bench.case.spec(nworkers=1, runtime=600))
    wait_until(lambda: time.monotonic() > began + WINDOW, WINDOW + 5, what="the end of the window", interval=0.1)
    _release(bench, ids)


def environment_of_peers(given: Path | None, folder: Path) -> Path:
    """A Python that has the peers."""
    if given is not None:
        return given / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    subprocess.run([folder / "venv" / "bin" / "pip", "install", "--quiet", *PACKAGES], check=True)
    return folder / "venv" / "bin" / "python"


def main() -> None:
    """Measure and report."""
    parser = arguments("Slurm: time to ready, and calls of its programs.", runs=3)
    parser.add_argument("--peers", type=Path, default=None, help="a virtual environment that has the peers")
    parser.add_argument("--workers", default="4,16", help="N, separated by commas")
    parser.add_argument("--sets", default="1,20,200", help="numbers of sets whose calls are counted")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="gs-slurm-"))
    server = Server("valkey")
    server.start()
    slurm = SlurmCluster(folder / "cluster")
    # As by default: one squeue a minute.
    case = SlurmCase(server, folder / "state", slurm=slurm, options=SlurmSection())
    python = environment_of_peers(options.peers, folder)
    ready = Report("slurm", "Slurm: time to ready", ["workers", "system", "s, min / median / max", "x its floor"])
    made = Report("slurm_calls", "Slurm: calls", ["sets", "system", "sbatch", "squeue + sacct", "scancel", "all"])
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    )
    peers = [line for line in listed.stdout.split() if line.partition("==")[0].replace("_", "-") in PACKAGES]
    for report in (ready, made):
        report.servers += [server.version(), slurm.run("sinfo", "--version").strip(), *peers]
    try:
        case.start_provisioner()
        with Observer(server.socket) as observer:
            bench = Bench(folder, slurm, server, case, observer, python)
            for number in map(int, filter(None, options.workers.split(","))):
                measure(ready, bench, number, options.runs)
            for number in map(int, filter(None, options.sets.split(","))):
                calls(made, bench, number)
    finally:
        case.close()
        slurm.down()
        server.stop()
    ready.note("Floor of one set: one bare sbatch; of all else: the bare array. Rounds take turns between the systems.")
    made.note(
        f"Until {WINDOW:.0f} s after the request, then the end of all; a job of others holds the nodes, so all wait."
    )
    for report in (ready, made):
        report.show()
    ready.write(options.json)
    made.write(options.json.with_name("slurm_calls.json") if options.json else None)


if __name__ == "__main__":
    main()
