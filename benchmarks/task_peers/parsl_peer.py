"""Parsl's high throughput executor, two workers."""

import common
import parsl
from parsl import python_app
from parsl.config import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider


@python_app
def noop(x):
    return x


@python_app
def nap(seconds):
    import time

    time.sleep(seconds)
    return seconds


if __name__ == "__main__":
    options = common.arguments()
    executor = HighThroughputExecutor(
        address="127.0.0.1", max_workers_per_node=2, prefetch_capacity=50, provider=LocalProvider(max_blocks=1)
    )
    with parsl.load(Config(executors=[executor], run_dir=options.folder, usage_tracking=0)):
        apps = {"noop": noop, "nap": nap}

        def many(name: str, argument: float, count: int) -> None:
            for future in [apps[name](argument) for _ in range(count)]:
                future.result()

        common.measure(many, lambda: noop(0).result(), options)
