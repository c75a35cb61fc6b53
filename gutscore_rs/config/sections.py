"""The sections of a case's TOML file, one frozen model each; every key and its default stands here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, PlainValidator, model_validator

from gutscore_rs.config import checks
from gutscore_rs.config.descriptions import KINDS
from gutscore_rs.durations import DAY

MAX_GROUPS = 10_000
MAX_QUEUES = 16

_CASE_NAME = checks.matching(
    r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}",
    "1 to 64 letters, digits, '_' and '-', beginning with a letter or digit",
)
_CLUSTER = checks.matching(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", "the name of a cluster (letters, digits, _ . -)")
_QUEUE_NAME = checks.matching(r"[A-Za-z0-9_-]{1,64}", "1 to 64 letters, digits, '_' and '-'")
_FUNCTION = checks.matching(
    r"(?=.{1,255}\Z)[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*",
    "'module:function', such as 'double_well.tams:main'",
)
_ADDRESS = re.compile(
    r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>\d{1,5}))?", re.ASCII
)
# Operations travel on a queue of this name; a task there would be refused by every provisioner.
RESERVED_QUEUE = "ops"
_MAX_PORT = 65535


def _queues(value: object) -> tuple[str, ...]:
    names = checks.items(_QUEUE_NAME, most=MAX_QUEUES)(value)
    if not names:
        raise ValueError("must name at least one queue")
    if RESERVED_QUEUE in names:
        raise ValueError(f"must not hold {RESERVED_QUEUE!r}, the queue of operations")
    if len(set(names)) < len(names):
        raise ValueError("names a queue twice")
    return names


def _backend(value: object) -> str:
    if not isinstance(value, str) or value not in KINDS:
        raise ValueError(f"must be {' or '.join(map(repr, KINDS))}")
    return value


def _port(parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError as error:
        raise ValueError(f"must name a port from 1 to {_MAX_PORT}") from error


def _url(value: object) -> str:
    url = checks.text(value, longest=1024)
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError(f"is no URL ({error})") from error
    if parts.password is not None:
        # A case file is shared and copied; its readers need not know the password.
        raise ValueError("must not hold a password; put it into a file of mode 0600 and give password_file")
    if parts.scheme in {"redis", "rediss"}:
        if not parts.hostname or _port(parts) == 0 or not re.fullmatch(r"/?|/\d{1,5}", parts.path, re.ASCII):
            raise ValueError("must be redis://host:port/number, such as redis://localhost:6379/0")
    elif parts.scheme != "unix" or not parts.path.startswith("/") or parts.netloc:
        raise ValueError("must begin with redis://, rediss:// or unix:///, such as redis://localhost:6379/0")
    return url


def _address(value: object) -> str:
    address = checks.text(value, longest=300)
    match = _ADDRESS.fullmatch(address)
    if not match or not 1 <= int(match["port"] or 1) <= _MAX_PORT:
        raise ValueError("must be an address of this host, with or without a port, such as '192.0.2.7:6379'")
    return address


def _options(value: object) -> dict[str, Any]:
    given = checks.table(value)
    if not all(isinstance(key, str) for key in given):
        raise ValueError("must have text as its keys")
    return dict(given)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class CaseSection(_Section):
    """``[case]``: the name separates cases on one Redis, so give one wherever Redis is shared."""

    name: Annotated[str, PlainValidator(_CASE_NAME)] = "gutscore"


class RedisSection(_Section):
    """``[redis]``: without a ``url`` the embedded server is used.

    Attributes:
        url: A Redis to use instead.
        username: ACL user of that Redis.
        password_file: File (mode 0600) with its password; a relative path is seen from the TOML file.
        bind: Address that the embedded server also listens on; unencrypted.
    """

    url: Annotated[str | None, PlainValidator(checks.maybe(_url))] = None
    username: Annotated[str | None, PlainValidator(checks.maybe(checks.text))] = None
    password_file: Annotated[Path | None, PlainValidator(checks.maybe(checks.path))] = None
    bind: Annotated[str | None, PlainValidator(checks.maybe(_address))] = None

    @model_validator(mode="after")
    def _one_server(self) -> Self:
        if self.url and self.bind:
            raise ValueError("url and bind exclude each other: bind is for the embedded server, url for another one")
        if not self.url and (self.username or self.password_file):
            raise ValueError("username and password_file need a url; the embedded server makes its own password")
        return self


class TasksSection(_Section):
    """``[tasks]``: the task queues by short name, the first served first."""

    queues: Annotated[tuple[str, ...], PlainValidator(_queues)] = ("tasks",)


class ResourceSection(_Section):
    """``[resource]``: so many sets of one backend; ``groups.N`` overrides ``config`` for set N."""

    nwgroups: Annotated[int, PlainValidator(checks.whole(1, MAX_GROUPS))] = 1
    backend: Annotated[str, PlainValidator(_backend)] = "local"
    config: Annotated[Mapping[Any, Any], PlainValidator(checks.table)] = {}
    groups: Annotated[Mapping[Any, Any], PlainValidator(checks.table)] = {}


class ManagerSection(_Section):
    """``[manager]``, in seconds.

    Attributes:
        release_timeout: How long a release is waited for before what survives is named.
        request_timeout: How long an unanswered request stays valid.
    """

    release_timeout: Annotated[float, PlainValidator(checks.seconds(0.1, DAY))] = 60.0
    request_timeout: Annotated[float, PlainValidator(checks.seconds(1, 7 * DAY))] = 600.0


class SlurmSection(_Section):
    """``[slurm]``: how provisioners deal with Slurm; a host's own cluster needs none of it.

    Attributes:
        clusters: Further clusters of the site, by name (``sbatch --clusters``).
        poll_interval: Seconds between two calls of squeue, at least; sites ask for a minute or more.
        lookup_time: Seconds for which a submission without an answer is looked for before another is made: a
            controller that was down may take the first one in late.
    """

    clusters: Annotated[tuple[str, ...], PlainValidator(checks.items(_CLUSTER, most=MAX_QUEUES))] = ()
    poll_interval: Annotated[float, PlainValidator(checks.seconds(1, DAY))] = 60.0
    lookup_time: Annotated[float, PlainValidator(checks.seconds(1, DAY))] = 180.0


class DriverSection(_Section):
    """``[driver]``: the case's program.

    Attributes:
        function: ``module:function``, called with the manager and the options.
        path: Folder put on ``sys.path``; see :func:`gutscore_rs.config.case.driver_folder`.
        options: Handed to the function as it stands.
    """

    function: Annotated[str, PlainValidator(_FUNCTION)]
    path: Annotated[Path | None, PlainValidator(checks.maybe(checks.path))] = None
    options: Annotated[dict[str, Any], PlainValidator(_options)] = {}
