"""What a resource set is: N workers for T seconds on a backend.

A description is frozen and checked. :meth:`Description.to_spec` gives it as plain data, which is what stands
in Redis and JSON; :meth:`Description.from_spec` reads that again.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError, model_validator

from gutscore_rs.config import checks
from gutscore_rs.config.directives import directives
from gutscore_rs.config.problems import Problems, dotted
from gutscore_rs.durations import DAY, parse_runtime
from gutscore_rs.errors import ConfigError, SerializationError

SCHEMA = 1
# Far beyond any machine, so that a slip (10**9) is caught here; what a host can hold is judged there.
MAX_WORKERS = 100_000
# sbatch takes scripts up to 4 MB; a description that needs 100 kB is no description.
MAX_SPEC_BYTES = 100_000
# Added when a set is requested; they belong to the request, not to the description.
_REQUEST_KEYS = frozenset({"queues", "cwd"})

_NAME = checks.matching(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,252}", "a name of letters, digits, '_', '.' and '-'")
_SLURM_NAME = checks.matching(r"[A-Za-z0-9_][A-Za-z0-9_.,:+-]{0,252}", "a Slurm name (letters, digits, _ . , : + -)")
_CONSTRAINT = checks.matching(r"[A-Za-z0-9_.,:|&()\[\]*!=+-]{1,253}", "a Slurm constraint such as 'intel&gpu'")
_MEMORY = checks.matching(r"\d{1,12}[KMGTkmgt]?", "a memory size such as '4G' or '500M'; a bare number is megabytes")
_GPUS = checks.matching(r"(?:[A-Za-z0-9_.-]{1,64}:)?\d{1,4}", "a number of GPUs, or 'type:number' such as 'a100:2'")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}", re.ASCII)


def _environment(value: object) -> dict[str, str]:
    given = checks.table(value)
    if len(given) > checks.MAX_ITEMS:
        raise ValueError(f"must be a table of at most {checks.MAX_ITEMS} variables, not {len(given)}")
    out = {}
    for name, setting in given.items():
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise ValueError(f"holds {checks.shown(name)}, which is no name of an environment variable")
        if name.startswith(("GUTSCORE_RS_", "SLURM_")):
            raise ValueError(f"must not set {name}, which the workers are given")
        written = str(setting) if isinstance(setting, int) and not isinstance(setting, bool) else setting
        try:
            out[name] = checks.text(written) if written != "" else ""
        except ValueError as error:
            raise ValueError(f"{name} {error}") from error
    return out


def _command(value: object) -> str:
    line = checks.text(value)
    # An open quote would swallow the rest of the script. $'...' has rules that shlex does not know.
    if "$'" not in line:
        try:
            shlex.split(line, comments=True)
        except ValueError as error:
            raise ValueError(f"must be a whole shell command ({str(error).lower()})") from error
    if line.endswith("\\"):
        raise ValueError("must not end with a backslash, which would join it with the next line of the script")
    return line


def _folder(value: object) -> str:
    folder = checks.text(value)
    if folder.startswith("~"):
        raise ValueError("must not begin with '~', which is another folder on another host; write it out")
    return folder


def _number_or(check: Any) -> Any:
    """Text of a form, or a bare whole number that stands for it."""
    return lambda value: check(str(value) if isinstance(value, int) and not isinstance(value, bool) else value)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, dict) else value


Workers = Annotated[int, PlainValidator(checks.whole(1, MAX_WORKERS))]
Runtime = Annotated[int, PlainValidator(parse_runtime)]
Flag = Annotated[bool, PlainValidator(checks.flag)]
Commands = Annotated[tuple[str, ...], PlainValidator(checks.items(_command))]


class Description(BaseModel):
    """What every backend understands. The keys are documented in ``docs/configuration.md``.

    Attributes:
        runtime: Seconds that the workers live for.
        daemonize: True: the set outlives the process that requested it.
        cpus_per_worker: CPUs that each worker is bound to; None leaves that to the operating system.
        gpus_per_worker: GPUs that each worker sees; None leaves the environment as it is.
        oversubscribe: True: more workers may be asked for than the host has room for.
        drain_timeout: Seconds that a running task may go on once its worker has to leave.
        timeout_grace: Seconds beyond a task's own timeout after which its worker is killed (C code hears no timeout).
        batch: Most tasks that a worker takes at once; only short ones are taken together.
        isolation: ``none``: tasks run in their worker; ``process``: each in a process of its own.
        max_restarts: Workers of the set that may crash within a minute before it fails.
        env: Environment variables of the workers, set before anything is imported.
        path: Folders added to the workers' ``sys.path``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)
    # Other spellings of a key; dashes and underscores are one and the same anyway.
    synonyms: ClassVar[Mapping[str, str]] = {}

    backend: str
    nworkers: Workers = 1
    runtime: Runtime = 100
    daemonize: Flag = False
    cpus_per_worker: Annotated[int | None, PlainValidator(checks.maybe(checks.whole(1, 4096)))] = None
    gpus_per_worker: Annotated[int | None, PlainValidator(checks.maybe(checks.whole(0, 64)))] = None
    oversubscribe: Flag = False
    drain_timeout: Annotated[float, PlainValidator(checks.seconds(0, DAY))] = 5.0
    timeout_grace: Annotated[float, PlainValidator(checks.seconds(0, DAY))] = 15.0
    batch: Annotated[int, PlainValidator(checks.whole(1, 1000))] = 64
    isolation: Annotated[str, PlainValidator(checks.one_of("none", "process"))] = "none"
    max_restarts: Annotated[int, PlainValidator(checks.whole(0, 1000))] = 5
    env: Annotated[dict[str, str], PlainValidator(_environment)] = {}
    path: Annotated[tuple[str, ...], PlainValidator(checks.items(_folder))] = ()

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        size = len(json.dumps(self.to_spec()))
        if size > MAX_SPEC_BYTES:
            raise ValueError(f"the description is {size} bytes long; at most {MAX_SPEC_BYTES} are taken")
        return self

    def to_spec(self) -> dict[str, Any]:
        """Plain data (text, numbers, lists, dicts) under canonical keys; what is not set is left out."""
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return {"schema": SCHEMA} | {name: _plain(value) for name, value in given.items() if value is not None}

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Description:
        """The description that :meth:`to_spec` wrote; on a subclass only one of its own kind.

        Raises:
            SerializationError: It is of another schema or kind, or says what this version does not know.
        """
        schema, backend = spec.get("schema"), spec.get("backend")
        if schema != SCHEMA or isinstance(schema, bool):
            raise SerializationError(
                f"The description has schema {checks.shown(schema)}; this version of gutscore_rs reads "
                f"{SCHEMA}. Use the version that wrote it."
            )
        rest = {key: value for key, value in spec.items() if key not in _REQUEST_KEYS | {"schema", "backend"}}
        try:
            found = resource_description(rest, backend, source="stored description")
        except SerializationError:
            raise
        except ConfigError as error:
            raise SerializationError(str(error)) from error
        if not isinstance(found, cls):
            raise SerializationError(f"The description is of backend {backend!r}, not {cls.__name__}.")
        return found


class LocalDescription(Description):
    """Workers on one host, started there by its provisioner.

    Attributes:
        host: The host to start on; None: the one that requests.
    """

    backend: Literal["local"] = "local"
    host: Annotated[str | None, PlainValidator(checks.maybe(_NAME))] = None


class SlurmDescription(Description):
    """Workers in a Slurm job, spread evenly over its nodes.

    Attributes:
        gpus_per_node: As for sbatch; None: what ``gpus_per_worker`` needs.
        mem: Memory per node, as for sbatch.
        extra_directives: Further options of sbatch by long name; True is an option without a value.
        pre_cmd_list: Shell commands before the workers start, such as ``module load``; their failure does not
            stop the job unless they say so (``... || exit 1``).
        post_cmd_list: Shell commands after the workers have ended.
        array_throttle: How many sets that are submitted together may run at once.
        cluster: For sites with several (``sbatch --clusters``).
    """

    synonyms: ClassVar[Mapping[str, str]] = {"time": "runtime"}

    backend: Literal["slurm"] = "slurm"
    partition: Annotated[str | None, PlainValidator(checks.maybe(_SLURM_NAME))] = None
    nodes: Annotated[int, PlainValidator(checks.whole(1, MAX_WORKERS))] = 1
    account: Annotated[str | None, PlainValidator(checks.maybe(_SLURM_NAME))] = None
    qos: Annotated[str | None, PlainValidator(checks.maybe(_SLURM_NAME))] = None
    constraint: Annotated[str | None, PlainValidator(checks.maybe(_CONSTRAINT))] = None
    mem: Annotated[str | None, PlainValidator(checks.maybe(_number_or(_MEMORY)))] = None
    gpus_per_node: Annotated[str | None, PlainValidator(checks.maybe(_number_or(_GPUS)))] = None
    extra_directives: Annotated[dict[str, str | bool], PlainValidator(directives)] = {}
    pre_cmd_list: Commands = ()
    post_cmd_list: Commands = ()
    array_throttle: Annotated[int | None, PlainValidator(checks.maybe(checks.whole(1, MAX_WORKERS)))] = None
    cluster: Annotated[str | None, PlainValidator(checks.maybe(_NAME))] = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.nodes > self.nworkers:
            raise ValueError(f"nodes = {self.nodes} is more than nworkers = {self.nworkers}; each node needs a worker")
        if self.gpus_per_worker and self.gpus_per_node:
            needed = self.gpus_per_worker * math.ceil(self.nworkers / self.nodes)
            if int(self.gpus_per_node.rpartition(":")[2]) < needed:
                raise ValueError(
                    f"gpus_per_node = {self.gpus_per_node} is fewer than the {needed} that gpus_per_worker = "
                    f"{self.gpus_per_worker} needs; raise it, or leave it out"
                )
        return self


KINDS: Mapping[str, type[LocalDescription | SlurmDescription]] = {
    "local": LocalDescription,
    "slurm": SlurmDescription,
}


def resource_description(
    config: Mapping[Any, Any], backend: object, wgroup: int | None = None, *, source: str | None = None
) -> Description:
    """A checked description from the keys of ``[resource.config]``.

    Args:
        config: The keys; dashes count as underscores, and what is missing gets its default.
        backend: ``local`` or ``slurm``.
        wgroup: The set it describes, for messages.
        source: Where it stands, for messages.

    Raises:
        ConfigError: All that is wrong with it.
    """
    problems = Problems(source or ("resource set" if wgroup is None else f"resource set {wgroup}"))
    if not isinstance(config, Mapping):
        problems.add("", f"a description must be a table, not {checks.shown(config)}")
        raise problems.error()
    found = describe([("", config)], backend, problems)
    if found is None:
        raise problems.error()
    return found


def describe(
    layers: Sequence[tuple[str, Mapping[Any, Any]]], backend: object, problems: Problems
) -> LocalDescription | SlurmDescription | None:
    """As :func:`resource_description`, but what is wrong goes to ``problems``; then None is returned.

    Args:
        layers: Tables with their dotted names; a later one overrides the keys of those before it.
        backend: ``local`` or ``slurm``.
        problems: Where to note what is wrong, under the table that holds it.
    """
    kind = KINDS.get(backend) if isinstance(backend, str) else None
    if kind is None:
        problems.add("backend", f"must be {' or '.join(map(repr, KINDS))}", backend)
        return None
    given = _Given(kind, problems)
    for where, table in layers:
        given.add(where, table)
    try:
        found = kind.model_validate(given.values)
    except ValidationError as error:
        problems.take(error, kind, layers[-1][0], given.names)
        return None
    return None if given.strange else found


@dataclass
class _Given:
    """Values by field name, and how their user named each."""

    kind: type[Description]
    problems: Problems
    values: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    strange: bool = False

    def add(self, where: str, table: Mapping[Any, Any]) -> None:
        valid = set(self.kind.model_fields) - {"backend"}
        own: dict[str, Any] = {}
        for key, value in table.items():
            name = str(key).replace("-", "_")
            name = self.kind.synonyms.get(name, name)
            if not isinstance(key, str) or name not in valid:
                self.problems.unknown(where, key, valid)
                self.strange = True
            elif name in own:
                self.problems.add(dotted(where, key), f"is given twice: it is the same as {own[name]!r}")
                self.strange = True
            else:
                own[name], self.values[name], self.names[name] = key, value, dotted(where, key)
