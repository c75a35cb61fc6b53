"""Running Slurm's programs: the one place that does.

Their environment is made anew each time. Slurm's own variables win over options in a script, and some always reach the
job (sbatch(1), INPUT ENVIRONMENT VARIABLES and ``--export``); a provisioner may itself have been started in a job. So
none of them is handed on but the one that says where Slurm's configuration is.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from gutscore_rs.errors import SlurmMissingError
from gutscore_rs.processes import die_with_parent
from gutscore_rs.settings import environment

SLURMS_OWN = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SALLOC_", "SQUEUE_", "SCANCEL_", "SACCT_", "SINFO_", "SCONTROL_")
KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER")
# squeue(1), sacct(1): times as seconds, whatever the site's format and time zone; lists of array tasks in full.
FORMATS = {"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}
MOST_OUTPUT = 50_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program left behind.

    Attributes:
        code: Its exit code; negative: a signal ended it; None: its time limit did.
        out: Its standard output.
        err: Its standard error, in one line.
    """

    code: int | None
    out: str
    err: str

    @property
    def words(self) -> str:
        """What it said about what went wrong."""
        if self.code is None:
            return f"no answer within its time limit {self.err}".strip()
        return self.err or f"exit code {self.code}"


def clean_environment() -> dict[str, str]:
    """This process's environment without what Slurm would obey; messages in English."""
    env = {name: value for name, value in environment().items() if name in KEPT or not name.startswith(SLURMS_OWN)}
    return env | {"LC_ALL": "C"} | FORMATS


def run(command: Sequence[str], *, time_limit: float, stdin: str | None = None) -> Answer:
    """Run a program of Slurm's; it dies with this thread's process, so that nothing is submitted behind our back.

    Raises:
        SlurmMissingError: It is not on PATH.
    """
    parent = os.getpid()
    try:
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(),
            preexec_fn=lambda: _settle(parent),  # noqa: PLW1509 - provisioners have no threads
        ) as process:
            return _communicate(process, stdin, time_limit)
    except FileNotFoundError as error:
        raise SlurmMissingError(
            f"There is no {command[0]} on PATH here. Use a host that can submit to Slurm (a login node), or load it "
            "first (`module load slurm`); on Debian: apt install slurm-client."
        ) from error


def _settle(parent: int) -> None:
    die_with_parent(parent)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def _communicate(process: subprocess.Popen[bytes], stdin: str | None, time_limit: float) -> Answer:
    given = None if stdin is None else stdin.encode()
    code: int | None
    try:
        out, err = process.communicate(given, timeout=time_limit)
        code = process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        code = None
    return Answer(code, _text(out), " ".join(_text(err).split()))


def _text(raw: bytes) -> str:
    return raw[:MOST_OUTPUT].decode("utf-8", "backslashreplace")
