"""Resource sets: descriptions of N workers for T seconds that can be requested, counted and released."""

from __future__ import annotations

from gutscore_rs.resource_set.base import ResourceSetBaseclass
from gutscore_rs.resource_set.local import ResourceSetLocal
from gutscore_rs.resource_set.registry import Registry, registry_for
from gutscore_rs.resource_set.slurm import ResourceSetSlurm

__all__ = ["Registry", "ResourceSetBaseclass", "ResourceSetLocal", "ResourceSetSlurm", "registry_for"]
