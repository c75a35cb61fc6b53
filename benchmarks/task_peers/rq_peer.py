"""Stock RQ: Worker, SimpleWorker or a worker pool, by the environment variable KIND."""

import os
import subprocess
import sys
import time

import common
from redis import Redis
from rq import Queue

if __name__ == "__main__":
    options = common.arguments()
    kind = os.environ["KIND"]
    connection = Redis(unix_socket_path=options.socket)
    queue = Queue("bench", connection=connection)
    url = f"unix://{options.socket}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if kind == "pool":
        command = [sys.executable, "-m", "rq.cli", "worker-pool", "-u", url, "-n", "2", "bench"]
        workers = [subprocess.Popen(command, **quiet)]
    else:
        command = [sys.executable, "-m", "rq.cli", "worker", "-u", url, "-w", f"rq.worker.{kind}", "bench"]
        workers = [subprocess.Popen(command, **quiet) for _ in range(2)]
    finished = 0

    def many(name: str, argument: float, count: int) -> None:
        global finished
        finished += count
        queue.enqueue_many([Queue.prepare_data(f"common.{name}", (argument,)) for _ in range(count)])
        while connection.zcard("rq:finished:bench") < finished:
            time.sleep(0.002)

    def one() -> None:
        global finished
        finished += 1
        queue.enqueue("common.noop", 0).latest_result(timeout=10)

    try:
        common.measure(many, one, options)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            try:
                worker.wait(5)
            except subprocess.TimeoutExpired:
                worker.kill()
