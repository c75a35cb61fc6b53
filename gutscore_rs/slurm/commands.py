"""Runs one Slurm program: an environment made new, a time limit, and nothing of it left behind.

* Environment: ``SLURM_*`` variables always propagate into a job, whatever ``--export`` says (sbatch(1)), and
  ``SBATCH_*``, ``SQUEUE_*`` and so on are options; inside another job they would be that job's. Known from
  goodfire-ai/spd#955 and snakemake-executor-plugin-slurm#113. Only ``SLURM_CONF`` stays.
* Time limit: sbatch itself tries again for up to 120 s while the queue is full, so its limit is longer than that.
* Death: the program is killed with the thread that waits for it (prctl(2), PR_SET_PDEATHSIG), so that no sbatch
  of a killed process submits later; a site's wrapper around it is killed with its process group on a timeout.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from gutscore_rs.errors import SlurmMissingError, SlurmUnavailableError
from gutscore_rs.processes import die_with_parent
from gutscore_rs.settings import environment

_PREFIXES = (
    *("SLURM_", "SLURMD_", "SLURMCTLD_", "SRUN_", "SALLOC_"),
    *("SBATCH_", "SQUEUE_", "SCANCEL_", "SACCT_", "SINFO_", "SCONTROL_"),
)
_KEPT = frozenset({"SLURM_CONF"})
# What sbatch, and so the job, is given: a login shell must find itself; the site's profile and the description's
# pre_cmd_list do the rest. KRB5CCNAME: sites whose sbatch asks Kerberos.
SUBMITTED = frozenset({"HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "SLURM_CONF", "KRB5CCNAME"})
# Times as unix seconds; task lists of arrays in full, not cut at 64 characters (squeue(1), SLURM_BITSTR_LEN).
READING = {"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}
# What a killed program may still have in its pipes is there at once, unless somebody else holds them.
_LAST_WORDS_SECONDS = 2.0
_SHOWN = 2000


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended.

    Attributes:
        code: Its exit code, negative when a signal ended it; None when it was killed at its time limit.
        out: Its stdout. Bytes that are no UTF-8 are replaced: names of others' jobs may hold any.
        err: Its stderr.
        program: Its name.
        timeout: Its time limit, seconds.
    """

    code: int | None
    out: str
    err: str
    program: str
    timeout: float

    @property
    def words(self) -> str:
        """What it said, for an error message."""
        said = "\n".join(filter(None, (self.err.strip(), self.out.strip())))
        if self.code is None:
            return f"{self.program} did not end within {self.timeout:g} s and was killed. {said[:_SHOWN]}".rstrip()
        return said[:_SHOWN] or f"{self.program} ended with exit code {self.code} and said nothing."

    @property
    def sentence(self) -> str:
        """The same, for a message that goes on."""
        return self.words if self.words.endswith(".") else f"{self.words}."


def slurm_environment(environ: Mapping[str, str], extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a Slurm program: ours, without the variables by which another job would speak."""
    kept = {name: value for name, value in environ.items() if name in _KEPT or not name.startswith(_PREFIXES)}
    return kept | {"LC_ALL": "C"} | dict(extra or {})


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    stdin: str = "",
    extra: Mapping[str, str] | None = None,
    only: Collection[str] | None = None,
) -> Finished:
    """Run a program to its end, or to its time limit.

    Args:
        argv: Name of the program, looked up in PATH, and its arguments.
        timeout: Seconds after which it is killed.
        stdin: What it reads.
        extra: Further variables of its environment.
        only: The variables of ours that it is given; None: all but Slurm's.

    Raises:
        SlurmMissingError: There is no such program.
        SlurmUnavailableError: It cannot be started now (no memory, no process left).
    """
    parent, given = os.getpid(), environment()
    if only is not None:
        given = {name: value for name, value in given.items() if name in only}
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=slurm_environment(given, extra),
            process_group=0,
            # One system call and one question, so that it may follow a fork beside threads.
            preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509
        )
    except (FileNotFoundError, PermissionError) as error:
        raise SlurmMissingError(
            f"Slurm's program {argv[0]!r} cannot be run ({error.strerror}): install Slurm's client programs, or load "
            f"them as this site does (often `module load slurm`), so that {argv[0]!r} is in PATH."
        ) from error
    except (OSError, subprocess.SubprocessError) as error:
        raise SlurmUnavailableError(f"{argv[0]} could not be started: {error}. It can be tried again.") from error
    try:
        out, err = process.communicate(stdin.encode(), timeout=timeout)
    except subprocess.TimeoutExpired:
        out, err = _kill(process)
        return Finished(None, _text(out), _text(err), argv[0], timeout)
    except BaseException:
        _kill(process)
        raise
    return Finished(process.returncode, _text(out), _text(err), argv[0], timeout)


def read(argv: Sequence[str], *, timeout: float) -> str:
    """What a program that only asks prints on stdout.

    Raises:
        SlurmMissingError: There is no such program.
        SlurmUnavailableError: It failed or did not answer in time.
    """
    done = run(argv, timeout=timeout, extra=READING)
    if done.code != 0:
        raise SlurmUnavailableError(
            f"Slurm did not answer `{argv[0]}`: {done.sentence} Look with `scontrol ping` whether its controller is "
            "up; the same can be asked again."
        )
    return done.out


def _kill(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Kill a program with its process group and reap it; what it had said."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    out, err = b"", b""
    try:
        out, err = process.communicate(timeout=_LAST_WORDS_SECONDS)
    except subprocess.TimeoutExpired as expired:
        # Somebody who left the group still holds the pipes.
        out, err = expired.stdout or b"", expired.stderr or b""
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
    process.wait()
    return out, err


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
