from __future__ import annotations

from support.fake_slurm import fake_slurm

__all__ = ["fake_slurm"]
