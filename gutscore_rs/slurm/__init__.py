"""The Slurm side: what is handed to sbatch, and the one place that calls Slurm programs."""

from __future__ import annotations

from gutscore_rs.slurm.client import SlurmClient
from gutscore_rs.slurm.job_script import build_job_script, command_line_options
from gutscore_rs.slurm.jobs import JobView
from gutscore_rs.slurm.limits import ClusterLimits, Partition, check_request
from gutscore_rs.slurm.states import Verdict
from gutscore_rs.slurm.submission import Busy, Refused, Submission, Submitted, Unknown

__all__ = [
    "Busy",
    "ClusterLimits",
    "JobView",
    "Partition",
    "Refused",
    "SlurmClient",
    "Submission",
    "Submitted",
    "Unknown",
    "Verdict",
    "build_job_script",
    "check_request",
    "command_line_options",
]
