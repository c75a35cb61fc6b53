"""One Slurm cluster, as this library uses it: few calls, each about many jobs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from gutscore_rs.errors import SlurmRefusedError, SlurmUnavailableError
from gutscore_rs.slurm.commands import Answer, run
from gutscore_rs.slurm.limits import ClusterLimits, read_config, read_partitions
from gutscore_rs.slurm.submission import Submission, read_reply
from gutscore_rs.slurm.tables import HISTORY_FIELDS, QUEUE_FORMAT, read_history, read_queue
from gutscore_rs.slurm.views import JobView

# sbatch itself tries again for up to 120 s while the queue is full (sbatch.c); cutting it short would leave it unknown
# whether there is a job.
SUBMIT_SECONDS, ASK_SECONDS = 180.0, 60.0
# One scancel with thousands of ids times out (Parsl#2232).
MOST_IDS = 100


@dataclass(frozen=True, slots=True)
class SlurmClient:
    """Speaks to a cluster.

    Args:
        cluster: Its name, for those of a site's that are not this host's own; empty: this host's own.
        submit_seconds: Time limit of an sbatch.
        ask_seconds: Time limit of everything else.
    """

    cluster: str = ""
    submit_seconds: float = SUBMIT_SECONDS
    ask_seconds: float = ASK_SECONDS

    def submit(self, script: str, options: Sequence[str]) -> Submission:
        """Submit a batch script.

        Args:
            script: The script.
            options: Its options once more: on the command line nothing beats them.

        Returns:
            What became of it; a failure of Slurm's is no exception here.

        Raises:
            SlurmMissingError: There is no sbatch.
        """
        command = self._command("sbatch", "--parsable", *options)
        return read_reply(run(command, stdin=script, time_limit=self.submit_seconds))

    def test_only(self, script: str, options: Sequence[str]) -> str:
        """Slurm's own words on when and where a script would run; nothing is submitted, a job id is used up.

        Raises:
            SlurmRefusedError: It would not.
            SlurmUnavailableError: No answer.
        """
        answer = run(self._command("sbatch", "--test-only", *options), stdin=script, time_limit=self.ask_seconds)
        if answer.code is None or answer.code < 0:
            raise self._unavailable("sbatch", answer)
        if answer.code:
            raise SlurmRefusedError(f"Slurm would not take this job: {answer.words}")
        return answer.err.removeprefix("sbatch: ")

    def queue(self) -> tuple[JobView, ...]:
        """All jobs of this user that Slurm still knows, also those that ended within MinJobAge.

        Raises:
            SlurmUnavailableError: No answer.
        """
        command = self._command("squeue", "--me", "--noheader", "--states=all", f"--format={QUEUE_FORMAT}")
        return read_queue(self._ask(command).out)

    def history(self, names: Sequence[str], since: float) -> dict[str, JobView]:
        """What the accounting says of jobs by their names; nothing where there is none, or it does not answer.

        It may lag behind the queue by minutes, so what it does not say means nothing.

        Args:
            names: Of the jobs.
            since: Unix second before the first of them; sacct(1) would begin at midnight.

        Returns:
            Views by job.
        """
        began = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - 60))
        command = self._command(
            "sacct", "--noheader", "--parsable2", "--allocations", "--duplicates",
            f"--starttime={began}", f"--format={HISTORY_FIELDS}", f"--name={','.join(names)}",
        )  # fmt: skip
        answer = run(command, time_limit=self.ask_seconds)
        return {view.job: view for view in read_history(answer.out)} if answer.code == 0 else {}

    def cancel(self, jobs: Sequence[str]) -> None:
        """Cancel jobs: ``123``, ``123_4``, ``123_[1-9]``. Those that have ended, or never were, are none to complain of.

        That it succeeds says nothing about their being gone (scancel(1)): look.

        Raises:
            SlurmUnavailableError: The controller could not be told.
        """
        for batch in _batches(jobs):
            self._ask(self._command("scancel", *batch))

    def cancel_named(self, name: str) -> None:
        """Cancel this user's jobs of a name.

        Raises:
            SlurmUnavailableError: The controller could not be told.
        """
        if not name:
            raise ValueError("an empty name would cancel every job of this user")
        self._ask(self._command("scancel", "--me", f"--name={name}"))

    def signal(self, jobs: Sequence[str], signal_name: str) -> None:
        """Send a signal to the batch shells of running jobs, and to nothing else of them (scancel(1), ``--batch``).

        Raises:
            SlurmUnavailableError: The controller could not be told.
        """
        for batch in _batches(jobs):
            # A job that ended meanwhile is an error here, other than for the default signal.
            answer = run(
                self._command("scancel", "--batch", f"--signal={signal_name}", *batch), time_limit=self.ask_seconds
            )
            if answer.code is None or "contact" in answer.err:
                raise self._unavailable("scancel", answer)

    def limits(self, *, time_limit: float | None = None) -> ClusterLimits:
        """What the cluster allows.

        Raises:
            SlurmUnavailableError: No answer.
        """
        config = read_config(self._ask(self._command("scontrol", "show", "config"), time_limit).out)
        if not config.name:
            raise SlurmUnavailableError("`scontrol show config` names no cluster; is this Slurm's scontrol?")
        rows = self._ask(self._command("scontrol", "--oneliner", "show", "partition"), time_limit).out
        return replace(config, partitions=read_partitions(rows))

    def _command(self, program: str, *arguments: str) -> list[str]:
        return [program, *((f"--clusters={self.cluster}",) if self.cluster else ()), *arguments]

    def _ask(self, command: Sequence[str], time_limit: float | None = None) -> Answer:
        answer = run(command, time_limit=time_limit or self.ask_seconds)
        if answer.code != 0:
            raise self._unavailable(command[0], answer)
        return answer

    def _unavailable(self, program: str, answer: Answer) -> SlurmUnavailableError:
        return SlurmUnavailableError(
            f"{program} got no answer from Slurm{f' on cluster {self.cluster}' if self.cluster else ''}: "
            f"{answer.words[:500]}. Try again later; `sinfo` shows whether the controller answers."
        )


def _batches(jobs: Sequence[str]) -> Iterator[Sequence[str]]:
    return (jobs[first : first + MOST_IDS] for first in range(0, len(jobs), MOST_IDS))
