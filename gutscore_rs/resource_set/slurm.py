"""Workers in a Slurm job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from gutscore_rs.errors import ConfigError
from gutscore_rs.resource_set.base import ResourceSetBaseclass
from gutscore_rs.resource_set.serialization import SerializedSet
from gutscore_rs.slurm import SlurmClient, build_job_script, check_request

# What only a submission knows; in a preview it reads as what it stands for.
PREVIEW_TOKEN = "TOKEN-OF-THE-SUBMISSION"  # noqa: S105 (a name, no secret)
PREVIEW_COMMAND = (
    "/PATH/TO/python",
    "-m",
    "gutscore_rs_workers.workergroup",
    "--access",
    "/PATH/TO/ACCESS-FILE",
)
PREVIEW_LOGS = "/PATH/TO/LOGS"


class ResourceSetSlurm(ResourceSetBaseclass):
    """Workers submitted to Slurm by a provisioner that can reach its cluster.

    The batch script is made at once, so that a description that no script can hold is refused before anything
    is done.
    """

    backend: ClassVar[str] = "slurm"

    def _init_rs(self, record: SerializedSet) -> None:
        # Known after the submission; text, since ids such as 123_4 are no numbers.
        self._slurm_job_id = record.job_id
        self._slurm_job_script = record.job_script or self.job_script()

    def _record(self) -> SerializedSet:
        return replace(super()._record(), job_id=self._slurm_job_id, job_script=self._slurm_job_script)

    def job_script(
        self,
        *,
        token: str = PREVIEW_TOKEN,
        command: Sequence[str] = PREVIEW_COMMAND,
        log_dir: str = PREVIEW_LOGS,
    ) -> str:
        """The batch script of the description; without arguments a preview.

        Args:
            token: Names the submission.
            command: The launcher's argument list.
            log_dir: Folder for the job's output.

        Raises:
            ConfigError: A script cannot hold one of them.
        """
        return build_job_script(
            self._description.to_spec(),
            name=f"resource set {self._wgroup_id}",
            token=token,
            command=command,
            log_dir=log_dir,
        )

    def ask_slurm(self, script: str) -> str:
        """What Slurm says of a script of this set (``sbatch --test-only``): when and where it would start.

        Nothing is submitted; Slurm uses up a job id.

        Raises:
            ConfigError: It could never run; why.
            SlurmError: Slurm refuses it, cannot be reached, or is not here.
        """
        client = SlurmClient(str(self._description.to_spec().get("cluster") or ""))
        wrong = check_request(self._description.to_spec(), client.limits())
        if wrong:
            raise ConfigError(" ".join(wrong))
        return client.test_only(script, [])
