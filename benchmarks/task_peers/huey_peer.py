"""Huey, two worker processes, results by notification."""

import os
import subprocess
import sys

import common
from huey import RedisHuey

huey = RedisHuey("bench", url=f"unix://{os.environ['SOCKET']}", notify_result=True)


@huey.task()
def noop(x):
    return x


@huey.task()
def nap(seconds):
    return common.nap(seconds)


if __name__ == "__main__":
    # Tasks are known by their module, which is another one when it is the program.
    from huey_peer import nap, noop

    options = common.arguments()
    worker = subprocess.Popen(
        [sys.executable, "-m", "huey.bin.huey_consumer", "huey_peer.huey", "-w", "2", "-k", "process", "-q"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    tasks = {"noop": noop, "nap": nap}

    def many(name: str, argument: float, count: int) -> None:
        for result in [tasks[name](argument) for _ in range(count)]:
            result.get(blocking=True, timeout=120)

    try:
        common.measure(many, lambda: noop(0).get(blocking=True, timeout=60), options)
    finally:
        worker.terminate()
        worker.wait(20)
