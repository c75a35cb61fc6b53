"""Where in a Slurm job a launcher is, as Slurm tells every task (srun(1), OUTPUT ENVIRONMENT VARIABLES)."""

from __future__ import annotations

from dataclasses import dataclass

from gutscore_rs.durations import slurm_surplus
from gutscore_rs.settings import environment_value
from gutscore_rs.slurm.job_script import JOB_END, JOB_START


@dataclass(frozen=True, slots=True)
class SlurmPlace:
    """One node of one start of a Slurm job.

    Attributes:
        cluster: Name of the cluster, as the controller calls it.
        job: ``<job id>``, or ``<array job id>_<task>``.
        job_id: The job's own id, also of an array task.
        task: Index within the array, 0 without one.
        restarts: How often the job was requeued.
        rank: Which of the job's nodes this is, from 0.
        nodes: Number of nodes of the job.
        began: Unix second at which the batch script began; 0.0: unknown.
        limit: Unix second of the job's time limit; 0.0: Slurm did not say (it does from 23.02 on).
    """

    cluster: str
    job: str
    job_id: str
    task: int
    restarts: int
    rank: int
    nodes: int
    began: float
    limit: float

    def ids(self) -> dict[str, str]:
        """For the worker's record, under Slurm's words."""
        return {
            "cluster": self.cluster,
            "job_id": self.job_id,
            "job": self.job,
            "restart_count": str(self.restarts),
            "node_rank": str(self.rank),
        }

    def end(self, seconds: int) -> float:
        """Unix second at which ``seconds`` of runtime, asked of Slurm as the job's time limit, are over.

        Slurm grants whole minutes; what it gave beyond the runtime is not used. Without its word the job began when
        its script did, which is late by what a prolog takes: the early signal is there for that.

        Returns:
            0.0 when nothing is known.
        """
        if self.limit:
            return self.limit - slurm_surplus(seconds)
        return self.began + seconds if self.began else 0.0


def this_place() -> SlurmPlace | None:
    """Where this process is; None outside of Slurm."""
    job_id = environment_value("SLURM_JOB_ID")
    if not job_id:
        return None
    array, task = environment_value("SLURM_ARRAY_JOB_ID"), environment_value("SLURM_ARRAY_TASK_ID")
    nodes = environment_value("SLURM_STEP_NUM_NODES") or environment_value("SLURM_JOB_NUM_NODES")
    return SlurmPlace(
        cluster=environment_value("SLURM_CLUSTER_NAME") or "",
        job=f"{array}_{task}" if array and task else job_id,
        job_id=job_id,
        task=_number(task),
        restarts=_number(environment_value("SLURM_RESTART_COUNT")),
        rank=_number(environment_value("SLURM_NODEID")),
        nodes=max(1, _number(nodes)),
        began=float(_number(environment_value(JOB_START))),
        limit=float(_number(environment_value("SLURM_JOB_END_TIME")) or _number(environment_value(JOB_END))),
    )


def share(nworkers: int, rank: int, nodes: int) -> range:
    """The indices of the workers of one node: an even spread, the first nodes have one more."""
    fewest, more = divmod(nworkers, nodes)
    first = rank * fewest + min(rank, more)
    return range(first, first + fewest + (1 if rank < more else 0))


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else 0
