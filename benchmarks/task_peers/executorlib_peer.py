"""executorlib, two workers that are kept (block allocation)."""

import common
from executorlib import SingleNodeExecutor

if __name__ == "__main__":
    options = common.arguments()
    with SingleNodeExecutor(max_workers=2, block_allocation=True) as executor:

        def many(name: str, argument: float, count: int) -> None:
            for future in [executor.submit(getattr(common, name), argument) for _ in range(count)]:
                future.result()

        common.measure(many, lambda: executor.submit(common.noop, 0).result(), options)
