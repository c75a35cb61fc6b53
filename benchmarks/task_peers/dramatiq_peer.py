"""Dramatiq, two processes of one thread."""

import os
import subprocess
import sys

import common
import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

URL = f"unix://{os.environ['SOCKET']}"
broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop(x):
    return x


@dramatiq.actor(store_results=True)
def nap(seconds):
    return common.nap(seconds)


if __name__ == "__main__":
    options = common.arguments()
    worker = subprocess.Popen(
        [sys.executable, "-m", "dramatiq", "dramatiq_peer", "--processes", "2", "--threads", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    actors = {"noop": noop, "nap": nap}

    def many(name: str, argument: float, count: int) -> None:
        for message in [actors[name].send(argument) for _ in range(count)]:
            message.get_result(block=True, timeout=120_000)

    try:
        common.measure(many, lambda: noop.send(0).get_result(block=True, timeout=60_000), options)
    finally:
        worker.terminate()
        worker.wait(20)
