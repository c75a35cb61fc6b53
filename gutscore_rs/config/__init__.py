"""Configuration of a case and descriptions of resource sets, checked by pydantic; no worker imports it."""

from __future__ import annotations

from gutscore_rs.config.case import CaseConfig, from_mapping, load, with_bind
from gutscore_rs.config.descriptions import (
    Description,
    LocalDescription,
    SlurmDescription,
    resource_description,
)
from gutscore_rs.config.sections import DriverSection, ManagerSection, RedisSection, SlurmSection, TasksSection

__all__ = [
    "CaseConfig",
    "Description",
    "DriverSection",
    "LocalDescription",
    "ManagerSection",
    "RedisSection",
    "SlurmDescription",
    "SlurmSection",
    "TasksSection",
    "from_mapping",
    "load",
    "resource_description",
    "with_bind",
]
