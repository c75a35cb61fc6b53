"""The one place that calls Slurm programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gutscore_rs.errors import SlurmMissingError, SlurmRefusedError, SlurmUnavailableError
from gutscore_rs.slurm.accounting import parse_history, sacct_command
from gutscore_rs.slurm.commands import READING, SUBMITTED, read, run
from gutscore_rs.slurm.job_ids import check_job_ids, check_token, together
from gutscore_rs.slurm.jobs import JobView
from gutscore_rs.slurm.limits import SINFO_FORMAT, ClusterLimits, parse_limits
from gutscore_rs.slurm.queue import SQUEUE, parse_queue
from gutscore_rs.slurm.submission import Refused, Submission, Unknown, judge, judge_failure

_CANCELLED_AT_ONCE = 100
# What scancel says of a job that has ended; on which it fails in some versions, in others not.
_ENDED = ("invalid job id", "already complet", "job is already", "job/step already")


@dataclass(frozen=True, slots=True)
class SlurmClient:
    """Slurm, as far as we need it.

    Every method but :meth:`history` raises :class:`~gutscore_rs.errors.SlurmMissingError` when the program is not
    there.

    Attributes:
        cluster: "" for the cluster of this host (or of SLURM_CONF); else every program gets ``-M``, which needs
            slurmdbd.
        submit_timeout: Time limit of sbatch, seconds; it repeats for up to 120 s by itself while the queue is full.
        timeout: Time limit of every other program, seconds.
    """

    cluster: str = ""
    submit_timeout: float = 180.0
    timeout: float = 60.0

    def submit(self, script: str, options: Sequence[str]) -> Submission:
        """Submit a batch script once, with the options on the command line too; never raises for what Slurm says."""
        argv = self._command("sbatch", "--parsable", *options)
        try:
            return judge(run(argv, timeout=self.submit_timeout, stdin=script, only=SUBMITTED))
        except SlurmUnavailableError as error:
            return Unknown(str(error))

    def test_only(self, script: str, options: Sequence[str]) -> str:
        """Slurm's own words on when and where the script would run; submits nothing, but uses a job id up.

        Raises:
            SlurmRefusedError: Slurm said no, for good or for now.
            SlurmUnavailableError: Slurm did not answer.
        """
        done = run(self._command("sbatch", "--test-only", *options), timeout=self.submit_timeout, stdin=script)
        if done.code == 0:
            return done.words
        outcome = judge_failure(done)
        if isinstance(outcome, Unknown):
            raise SlurmUnavailableError(f"Slurm did not answer `sbatch --test-only`: {outcome.words}")
        when = "" if isinstance(outcome, Refused) else " for now"
        raise SlurmRefusedError(f"Slurm refuses this job{when}: {outcome.words}")

    def queue(self) -> tuple[JobView, ...]:
        """All jobs of this user, those that ended within the last minutes too, in one call of squeue.

        Raises:
            SlurmUnavailableError: Slurm did not answer, or printed no queue.
        """
        return self._squeue("--me", "--states=all")

    def named(self, token: str) -> tuple[JobView, ...]:
        """The jobs of this user with a name, recently ended ones too.

        Raises:
            ConfigError: It can be no job's name.
            SlurmUnavailableError: Slurm did not answer, or printed no queue.
        """
        found = self._squeue("--me", "--states=all", f"--name={check_token(token)}")
        return tuple(view for view in found if view.name == token)

    def history(self, token_or_ids: Sequence[str], since: float) -> dict[str, JobView] | None:
        """What accounting knows of jobs, by name of the job ('123', '123_4'); it lags behind the queue.

        Args:
            token_or_ids: Tokens and ids, mixed at will.
            since: Look at jobs from this time on, unix seconds.

        Returns:
            None when accounting says nothing: none is kept here, or it does not answer. This is no error.

        Raises:
            ConfigError: One is neither a token nor an id.
        """
        ids = check_job_ids([each for each in token_or_ids if each[:1].isdigit() and _is_id(each)])
        tokens = [check_token(each) for each in token_or_ids if each not in set(ids)]
        found: dict[str, JobView] = {}
        for option, words in (("--jobs", ids), ("--name", tokens)):
            if words:
                try:
                    argv = self._command(*sacct_command(since), f"{option}={','.join(words)}")
                    done = run(argv, timeout=self.timeout, extra=READING)
                except (SlurmMissingError, SlurmUnavailableError):
                    return None
                if done.code != 0:
                    return None
                found |= {view.name_of_job: view for view in parse_history(done.out)}
        return found

    def cancel(self, job_ids: Sequence[str]) -> None:
        """Cancel jobs ('123') and array tasks ('123_4'); one that ended or never was is no error.

        That they end is not waited for: look with :meth:`queue`.

        Raises:
            ConfigError: One is no id.
            SlurmUnavailableError: Slurm did not answer; some may be cancelled.
            SlurmRefusedError: Slurm said no to one, e.g. since it belongs to somebody else.
        """
        known = together(check_job_ids(job_ids))
        refused: SlurmRefusedError | None = None
        for first in range(0, len(known), _CANCELLED_AT_ONCE):
            try:
                self._scancel(*known[first : first + _CANCELLED_AT_ONCE])
            except SlurmRefusedError as error:
                # One job that is not ours keeps none of the others alive.
                refused = error
        if refused is not None:
            raise refused

    def cancel_named(self, token: str) -> None:
        """Cancel all jobs of this user with a name; none is no error.

        Raises:
            ConfigError: It can be no job's name; an empty one would mean all jobs.
            SlurmUnavailableError: Slurm did not answer; some may be cancelled.
            SlurmRefusedError: Slurm said no.
        """
        self._scancel("--me", f"--name={check_token(token)}")

    def signal(self, job_ids: Sequence[str], name: str) -> None:
        """Send a signal to the batch shells of running jobs, and to nothing else of them (scancel(1), ``--batch``).

        Raises:
            ConfigError: One is no id.
            SlurmUnavailableError: Slurm did not answer.
            SlurmRefusedError: Slurm said no.
        """
        # Not as a range of tasks: of an array that partly waits scancel takes 10 s for that (22.05).
        known = check_job_ids(job_ids)
        for first in range(0, len(known), _CANCELLED_AT_ONCE):
            self._scancel("--batch", f"--signal={name}", *known[first : first + _CANCELLED_AT_ONCE])

    def limits(self) -> ClusterLimits:
        """What the cluster can hold.

        Raises:
            SlurmUnavailableError: Slurm did not answer.
        """
        return parse_limits(
            self._read("scontrol", "--all", "show", "config"),
            self._read("scontrol", "--all", "--oneliner", "show", "partition"),
            self._read("sinfo", "--all", "--noheader", "--exact", f"--format={SINFO_FORMAT}"),
        )

    def end_time(self, job_id: str) -> float | None:
        """When a job's time limit ends it, unix seconds; None for a job without limit, or that Slurm does not know.

        Raises:
            ConfigError: It is no id.
            SlurmUnavailableError: Slurm did not answer.
        """
        (known,) = check_job_ids([job_id])
        # For one id that Slurm has forgotten squeue fails, for two it does not (HQ#764, Parsl#1588).
        found = self._squeue(f"--jobs={known},{known}", "--states=all")
        return next((view.end for view in found if view.end), None)

    def _squeue(self, *options: str) -> tuple[JobView, ...]:
        return parse_queue(self._read(*SQUEUE, *options))[0]

    def _read(self, *argv: str) -> str:
        return read(self._command(*argv), timeout=self.timeout)

    def _command(self, program: str, *arguments: str) -> list[str]:
        return [program, *([f"--clusters={self.cluster}"] if self.cluster else []), *arguments]

    def _scancel(self, *arguments: str) -> None:
        done = run(self._command("scancel", *arguments), timeout=self.timeout)
        if done.code == 0:
            return
        lines = [line for line in done.err.splitlines() if line.strip()]
        left = [line for line in lines if not any(words in line.lower() for words in _ENDED)]
        if done.code is not None and lines and not left:
            return
        if any("denied" in line for line in left):
            raise SlurmRefusedError(f"Slurm did not let us cancel {' '.join(arguments)[:200]}: {done.words}")
        raise SlurmUnavailableError(
            f"Slurm did not answer `scancel {' '.join(arguments)[:200]}`: {done.sentence} The jobs may live on; the "
            "same can be tried again."
        )


def _is_id(text: str) -> bool:
    return text.replace("_", "").replace("+", "").isdigit()
