"""N workers for T minutes on a laptop or on Slurm, counted exactly and released for certain."""

from __future__ import annotations

__version__ = "0.1.0"
