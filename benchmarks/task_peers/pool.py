"""The standard library's ProcessPoolExecutor."""

from concurrent.futures import ProcessPoolExecutor

import common

if __name__ == "__main__":
    options = common.arguments()
    with ProcessPoolExecutor(2) as pool:

        def many(name: str, argument: float, count: int) -> None:
            for future in [pool.submit(getattr(common, name), argument) for _ in range(count)]:
                future.result()

        common.measure(many, lambda: pool.submit(common.noop, 0).result(), options)
