"""arq, two processes; it polls each 0.5 s by default, here each 5 ms."""

import asyncio
import os
import subprocess
import sys

import common
from arq import create_pool
from arq.connections import RedisSettings

SETTINGS = RedisSettings(unix_socket_path=os.environ["SOCKET"])


async def noop(_ctx, x):
    return x


async def nap(_ctx, seconds):
    return common.nap(seconds)


class WorkerSettings:  # arq reads its attributes
    functions = [noop, nap]
    redis_settings = SETTINGS
    max_jobs = 1
    poll_delay = 0.005


if __name__ == "__main__":
    options = common.arguments()
    command = [sys.executable, "-m", "arq", "arq_peer.WorkerSettings"]
    workers = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)]
    loop = asyncio.new_event_loop()
    pool = loop.run_until_complete(create_pool(SETTINGS))

    async def run(name: str, argument: float, count: int) -> None:
        jobs = [await pool.enqueue_job(name, argument) for _ in range(count)]
        for job in jobs:
            await job.result(timeout=120, poll_delay=0.002)

    try:
        common.measure(
            lambda name, argument, count: loop.run_until_complete(run(name, argument, count)),
            lambda: loop.run_until_complete(run("noop", 0, 1)),
            options,
        )
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(20)
