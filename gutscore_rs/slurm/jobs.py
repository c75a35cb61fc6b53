"""A job as Slurm shows it."""

from __future__ import annotations

from dataclasses import dataclass

from gutscore_rs.slurm.job_ids import task_holds
from gutscore_rs.slurm.states import Verdict, never_starts, verdict_of


@dataclass(frozen=True, slots=True)
class JobView:
    """A job, an array task, or the tasks of an array that Slurm has not split off yet.

    Of an array, a view without ``task`` is what was left of tasks that were cancelled before they began: it says
    nothing of the other tasks.

    Attributes:
        job_id: Its own id.
        array_id: The id of its array; its own when it is none.
        task: Its index in the array ("4"), or those not split off yet ("[1-9%2]"); "" when it is no array task.
        name: Its name: our token.
        state: Slurm's word.
        reason: Why it waits or failed, in Slurm's words; "" when Slurm names none.
        start: When it started or will, unix seconds; 0.0: unknown.
        end: When it ended or its time limit ends it, unix seconds; 0.0: unknown, or no limit.
        nodes: Slurm's list of its nodes; "" before it has any.
        restarts: How often it was requeued; -1: unknown (sacct does not say).
        exit_code: As "code:signal"; "" when unknown, or not ended.
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
    restarts: int = -1
    exit_code: str = ""

    @property
    def verdict(self) -> Verdict:
        return verdict_of(self.state)

    @property
    def is_gone(self) -> bool:
        return self.verdict is Verdict.GONE

    @property
    def hopeless(self) -> bool:
        """Whether it waits for what never comes, unless somebody edits the job or the configuration."""
        return self.verdict is Verdict.WAITING and never_starts(self.reason)

    def is_task(self, index: int) -> bool:
        """Whether this speaks for array task ``index``."""
        return bool(self.task) and task_holds(self.task, index)

    @property
    def name_of_job(self) -> str:
        """What scancel calls it: '123', '123_4', or '123_[1-9]' for tasks that are not split off."""
        if not self.task:
            return self.job_id
        return f"{self.array_id}_{self.task.partition('%')[0].removesuffix(']')}" + ("]" if "[" in self.task else "")
