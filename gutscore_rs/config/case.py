"""A case's configuration as a whole: read, checked, and completed with defaults.

Relative paths in it are seen from the folder of the TOML file (from the current folder for a mapping).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from gutscore_rs.config.checks import shown
from gutscore_rs.config.descriptions import LocalDescription, SlurmDescription, describe
from gutscore_rs.config.problems import Problems, dotted
from gutscore_rs.config.sections import (
    CaseSection,
    DriverSection,
    ManagerSection,
    RedisSection,
    ResourceSection,
    SlurmSection,
    TasksSection,
)
from gutscore_rs.errors import ConfigError

MAX_FILE_BYTES = 1_000_000
_SECTIONS = ("case", "redis", "tasks", "resource", "manager", "slurm", "driver")
_Section = TypeVar("_Section", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class CaseConfig:
    """Everything that a case file says.

    Attributes:
        groups: The description of each resource set; the index is its ``wgroup_id``. Their ``path`` is
            absolute and ends with the driver's folder, so that workers can import what the driver can.
        driver: The driver with an absolute ``path``, or None.
        source: The file, or what stands for it in messages.
    """

    name: str
    redis: RedisSection
    tasks: TasksSection
    groups: tuple[LocalDescription | SlurmDescription, ...]
    manager: ManagerSection
    slurm: SlurmSection
    driver: DriverSection | None
    source: str

    @property
    def queue_names(self) -> tuple[str, ...]:
        """RQ's names of the task queues, the first served first."""
        return tuple(f"{self.name}:{queue}" for queue in self.tasks.queues)


def load(path: Path) -> CaseConfig:
    """Read and check a TOML file.

    Raises:
        ConfigError: It cannot be read, is no TOML (with line and column), or all that is wrong in it.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path}: is no file; give the case's TOML file.")
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; give the case's TOML file.") from None
    except (OSError, ValueError) as error:
        what = (error.strerror if isinstance(error, OSError) else None) or error
        raise ConfigError(f"{shown(str(path), 200)}: cannot be read ({what}).") from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: is longer than {MAX_FILE_BYTES} bytes; is it the case's TOML file?")
    return from_mapping(_parse(data, path), source=str(path), folder=path.absolute().parent)


def _parse(data: bytes, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is no valid TOML: {error}.") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: is nested too deeply.") from error


def from_mapping(config: Mapping[Any, Any], *, source: str = "config", folder: Path | None = None) -> CaseConfig:
    """Check a configuration given as a mapping; missing sections and keys get their defaults.

    Args:
        config: As the TOML file.
        source: What stands for the file in messages.
        folder: Where relative paths begin; the current folder by default.

    Raises:
        ConfigError: All that is wrong with it, in one message.
    """
    problems = Problems(source)
    if not isinstance(config, Mapping):
        problems.add("", f"the configuration must be a table, not a {type(config).__name__}")
        raise problems.error()
    for key in config:
        if key not in _SECTIONS:
            problems.unknown("", key, _SECTIONS)
    case = _section(config, "case", CaseSection, problems)
    redis = _section(config, "redis", RedisSection, problems)
    tasks = _section(config, "tasks", TasksSection, problems)
    resource = _section(config, "resource", ResourceSection, problems)
    manager = _section(config, "manager", ManagerSection, problems)
    slurm = _section(config, "slurm", SlurmSection, problems)
    driver = _section(config, "driver", DriverSection, problems) if config.get("driver") is not None else None
    groups = _groups(resource, problems) if resource else ()
    if problems or not (case and redis and tasks and manager and slurm):
        raise problems.error()
    base = (folder or Path()).absolute()
    if driver:
        driver = driver.model_copy(update={"path": driver_folder(driver, base)})
    if redis.password_file:
        redis = redis.model_copy(update={"password_file": base / redis.password_file})
    return CaseConfig(
        name=case.name, redis=redis, tasks=tasks, manager=manager, slurm=slurm, driver=driver, source=source,
        groups=tuple(_with_paths(group, base, driver) for group in groups),
    )  # fmt: skip


def with_bind(config: CaseConfig, address: str) -> CaseConfig:
    """The configuration with ``bind`` in ``[redis]``.

    Raises:
        ConfigError: The address is none, or another Redis is named.
    """
    problems = Problems("--bind")
    redis = _section({"redis": config.redis.model_dump() | {"bind": address}}, "redis", RedisSection, problems)
    if redis is None:
        raise problems.error()
    return replace(config, redis=redis)


def driver_folder(driver: DriverSection, base: Path) -> Path:
    """The folder that makes the driver's function importable.

    It is ``path`` seen from the TOML file's folder. Without ``path`` it is that folder, or its parent when
    the TOML file lies inside the very package that the function is of.
    """
    if driver.path is not None:
        return _normal(base / driver.path)
    package = driver.function.partition(":")[0].partition(".")[0]
    return base.parent if base.name == package and (base / "__init__.py").is_file() else base


def _normal(path: Path) -> Path:
    # Without touching links: the user's own name of a folder is the one that other hosts know, too.
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and len(parts) > 1:
            parts.pop()
        else:
            parts.append(part)
    return Path(*parts)


def _section(config: Mapping[Any, Any], name: str, model: type[_Section], problems: Problems) -> _Section | None:
    given = config.get(name)
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        problems.add(name, f"must be a table; write [{name}]", given)
        return None
    strange = [key for key in given if not isinstance(key, str)]
    for key in strange:
        problems.unknown(name, key, model.model_fields)
    try:
        return model.model_validate({key: value for key, value in given.items() if isinstance(key, str)})
    except ValidationError as error:
        problems.take(error, model, name)
        return None


def _groups(resource: ResourceSection, problems: Problems) -> tuple[LocalDescription | SlurmDescription, ...]:
    overrides = _overrides(resource, problems)
    common = ("resource.config", resource.config)
    plain = None
    if len(overrides) < resource.nwgroups:
        plain = describe([common], resource.backend, problems)
    found = []
    for wgroup in range(resource.nwgroups):
        own = overrides.get(wgroup)
        layers = [common, (f"resource.groups.{wgroup}", own)] if own is not None else []
        group = describe(layers, resource.backend, problems) if layers else plain
        if group is not None:
            found.append(group)
    return tuple(found)


def _overrides(resource: ResourceSection, problems: Problems) -> dict[int, Mapping[Any, Any]]:
    found: dict[int, Mapping[Any, Any]] = {}
    valid = {str(wgroup): wgroup for wgroup in range(resource.nwgroups)}
    for key, own in resource.groups.items():
        wgroup = valid.get(str(key))
        name = dotted("resource.groups", str(key))
        if wgroup is None:
            problems.add(name, f"there is no such set; nwgroups = {resource.nwgroups} makes 0 to {len(valid) - 1}")
        elif not isinstance(own, Mapping):
            problems.add(name, "must be a table", own)
        elif wgroup in found:
            problems.add(name, "is given twice")
        else:
            found[wgroup] = own
    return found


def _with_paths(
    group: LocalDescription | SlurmDescription, base: Path, driver: DriverSection | None
) -> LocalDescription | SlurmDescription:
    folders = [str(_normal(base / folder)) for folder in group.path]
    if driver and driver.path and str(driver.path) not in folders:
        folders.append(str(driver.path))
    return group.model_copy(update={"path": tuple(folders)})
