"""HyperQueue by its Python package: one worker of two CPUs; a job for each batch of functions."""

import common
from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig

if __name__ == "__main__":
    options = common.arguments()
    with LocalCluster() as cluster:
        cluster.start_worker(WorkerConfig(cores=2))
        client = cluster.client()

        def many(name: str, argument: float, count: int) -> None:
            job = Job()
            for _ in range(count):
                job.function(getattr(common, name), args=(argument,))
            client.wait_for_jobs([client.submit(job)])

        common.measure(many, lambda: many("noop", 0, 1), options)
