"""A Slurm job, or the tasks of an array that squeue shows as one, as one look at the queue saw it."""

from __future__ import annotations

from dataclasses import dataclass

from gutscore_rs.slurm.job_ids import covers, job_name
from gutscore_rs.slurm.states import HOPELESS, Verdict, verdict_of


@dataclass(frozen=True, slots=True)
class JobView:
    """One line of squeue or sacct.

    Attributes:
        job_id: The job's own id.
        array_id: The id that an array has in common; of other jobs the job's own.
        task: Index within the array, or the indices that still wait (``[1-9%2]``); empty: no array.
        name: The job's name.
        state: In Slurm's words.
        reason: Why it waits, or how it ended, in Slurm's words.
        start: Unix second of its start, estimated while it waits; 0.0: unknown.
        end: Unix second at which its time limit is over; 0.0: unknown.
        nodes: Where it runs.
        exit_code: ``code:signal``; empty: unknown.
    """

    job_id: str
    array_id: str
    task: str
    name: str
    state: str
    reason: str = ""
    start: float = 0.0
    end: float = 0.0
    nodes: str = ""
    exit_code: str = ""

    @property
    def verdict(self) -> Verdict:
        """What the state means."""
        return verdict_of(self.state)

    @property
    def is_gone(self) -> bool:
        """Whether it is over for good."""
        return self.verdict is Verdict.GONE

    @property
    def hopeless(self) -> bool:
        """Whether it waits for what cannot come."""
        return self.verdict is Verdict.WAITING and self.reason in HOPELESS

    @property
    def job(self) -> str:
        """What scancel calls it: ``123``, ``123_4`` or ``123_[1-9]``."""
        return job_name(self.array_id, self.task.partition("%")[0] + ("]" if "%" in self.task else ""))

    def is_task(self, index: int) -> bool:
        """Whether it is, or contains, this task of its array."""
        return bool(self.task) and covers(self.task, index)
