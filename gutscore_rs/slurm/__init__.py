"""The Slurm side: what is handed to sbatch."""

from __future__ import annotations

from gutscore_rs.slurm.job_script import build_job_script, command_line_options

__all__ = ["build_job_script", "command_line_options"]
