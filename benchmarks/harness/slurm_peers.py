"""Runs in the peers' own Python: one peer gets N workers or jobs on Slurm; how long that took, on stdout.

``python slurm_peers.py ready|calls SYSTEM N SOCKET FOLDER SECONDS``; ``ready``: until N are there by the system's own
count (submitit has none: by a member of a Redis set each); ``calls``: N are asked for, SECONDS are waited, all ends.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 90.0


def ask(path: str, *words: str) -> bytes:
    """A command to Redis, without a package."""
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(path)
        one.sendall(f"*{len(words)}\r\n".encode() + b"".join(f"${len(word)}\r\n{word}\r\n".encode() for word in words))
        return one.recv(1024)


def wait(reached: Callable[[], bool]) -> float:
    """The moment at which it is so."""
    ends = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() > ends:
            sys.exit("it did not come")
        time.sleep(0.005)
    return time.monotonic()


def submitit_jobs(number: int, path: str, folder: Path) -> Iterator[Callable[[], bool]]:
    """An array of jobs, each of which writes once."""
    import submitit

    executor = submitit.SlurmExecutor(folder=folder)
    executor.update_parameters(time=10, cpus_per_task=1)
    jobs = executor.map_array(lambda index: ask(path, "SADD", "submitit", str(index)), range(number))
    yield lambda: ask(path, "SCARD", "submitit") == f":{number}\r\n".encode()
    for job in jobs:
        job.cancel()


def dask_workers(number: int, _path: str, folder: Path) -> Iterator[Callable[[], bool]]:
    """A job per worker."""
    from dask_jobqueue import SLURMCluster
    from distributed import Client

    options = {"cores": 1, "processes": 1, "memory": "300MB", "walltime": "00:10:00"}
    with (
        SLURMCluster(**options, log_directory=str(folder), local_directory=str(folder)) as cluster,
        Client(cluster) as client,
    ):
        cluster.scale(jobs=number)
        yield lambda: len(client.scheduler_info(n_workers=-1)["workers"]) >= number


def parsl_workers(number: int, _path: str, folder: Path) -> Iterator[Callable[[], bool]]:
    """A block per worker."""
    import parsl
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.launchers import SimpleLauncher
    from parsl.providers import SlurmProvider

    provider = SlurmProvider(
        init_blocks=number, min_blocks=number, max_blocks=number, nodes_per_block=1, cores_per_node=1, exclusive=False,
        walltime="00:10:00", launcher=SimpleLauncher(), worker_init=f"export PATH={Path(sys.executable).parent}:$PATH",
    )  # fmt: skip
    executor = HighThroughputExecutor(label="x", address="127.0.0.1", max_workers_per_node=1, provider=provider)
    with parsl.load(Config(executors=[executor], run_dir=str(folder))):
        yield lambda: len(executor.connected_managers()) >= number


SYSTEMS = {"submitit": submitit_jobs, "dask-jobqueue": dask_workers, "parsl": parsl_workers}


@contextmanager
def asked(system: str, number: int, path: str, folder: Path) -> Iterator[Callable[[], bool]]:
    """Ask for N, and end them afterwards."""
    steps = SYSTEMS[system](number, path, folder)
    yield next(steps)
    for _ in steps:
        pass


def main() -> None:
    """See the module's docstring."""
    what, system, number, path, folder, seconds = sys.argv[1:]
    # Imports are no part of a request.
    {"submitit": lambda: __import__("submitit"), "dask-jobqueue": lambda: __import__("dask_jobqueue"),
     "parsl": lambda: __import__("parsl")}[system]()  # fmt: skip
    began = time.monotonic()
    with asked(system, int(number), path, Path(folder)) as reached:
        if what == "ready":
            print(wait(reached) - began, flush=True)
        else:
            time.sleep(float(seconds))


if __name__ == "__main__":
    main()
