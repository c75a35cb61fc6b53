"""dask.distributed, a local cluster of two processes."""

import common
from distributed import Client, LocalCluster

if __name__ == "__main__":
    options = common.arguments()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster,
        Client(cluster) as client,
    ):

        def many(name: str, argument: float, count: int) -> None:
            futures = [client.submit(getattr(common, name), argument, pure=False) for _ in range(count)]
            client.gather(futures)

        common.measure(many, lambda: client.submit(common.noop, 0, pure=False).result(), options)
