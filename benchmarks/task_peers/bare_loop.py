"""The floor of everything on Redis: two processes that take an item, and write a result, with nothing around it."""

import multiprocessing
import time

import common
from redis import Redis


def serve(socket: str) -> None:
    connection = Redis(unix_socket_path=socket)
    while True:
        item = connection.blmove("bare", "taken", 0)
        if item == b"stop":
            return
        name, argument = item.decode().split(" ")
        getattr(common, name)(float(argument))
        pipeline = connection.pipeline(transaction=False)
        pipeline.rpush("results", b"0")
        pipeline.lrem("taken", -1, item)
        pipeline.execute()


if __name__ == "__main__":
    options = common.arguments()
    connection = Redis(unix_socket_path=options.socket)
    workers = [multiprocessing.Process(target=serve, args=(options.socket,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    connection.delete("bare", "taken", "results")

    def many(name: str, argument: float, count: int) -> None:
        items = [f"{name} {argument}"] * count
        connection.rpush("bare", *items)
        while connection.llen("results") < count:
            time.sleep(0.001)
        connection.delete("results")

    def one() -> None:
        connection.rpush("bare", "noop 0")
        connection.blpop("results")

    try:
        common.measure(many, one, options)
    finally:
        connection.rpush("bare", "stop", "stop")
        for worker in workers:
            worker.join(5)
            worker.kill()
