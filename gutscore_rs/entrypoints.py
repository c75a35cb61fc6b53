"""The processes of ``workers/``, as command lines: the library starts them and never imports them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Protocol

from gutscore_rs.identity import ProcessIdentity

WORKERGROUP = "gutscore_rs_workers.workergroup"
PROVISIONER = "gutscore_rs_workers.provisioner"


def _module(name: str) -> list[str]:
    # -P: the current folder must not come before the installed packages. Not -m: it compiles the module anew at every
    # start, as it does not use the cached one for __main__.
    return [sys.executable, "-P", "-c", f"import sys; from {name} import main; sys.exit(main())"]


def arguments_of(command: list[str]) -> list[str]:
    """What such a command line hands to the module's ``main``."""
    return command[len(_module("")) :]


def workergroup_command(access: Path, *, wgroup_id: int, generation: int, token: str, logs: Path) -> list[str]:
    """The launcher of one set on this host."""
    return [
        *_module(WORKERGROUP),
        "--access",
        str(access),
        "--resource-set",
        str(wgroup_id),
        "--generation",
        str(generation),
        "--token",
        token,
        "--logs",
        str(logs),
    ]


def step_command(access: Path, *, wgroup_id: int, generation: int, token: str, logs: Path) -> list[str]:
    """The launcher of one set on each node of a step in an allocation."""
    command = workergroup_command(access, wgroup_id=wgroup_id, generation=generation, token=token, logs=logs)
    return [*command, "--step"]


def submission_command(access: Path, *, token: str, logs: Path) -> list[str]:
    """The launcher on each node of a Slurm job: it finds its set by the submission's token and the array index."""
    return [*_module(WORKERGROUP), "--access", str(access), "--token", token, "--logs", str(logs)]


class SlurmOptions(Protocol):
    """How a provisioner deals with Slurm, see ``config.sections.SlurmSection``."""

    @property
    def clusters(self) -> tuple[str, ...]: ...
    @property
    def poll_interval(self) -> float: ...
    @property
    def lookup_time(self) -> float: ...


def provisioner_command(
    access: Path,
    *,
    owner: ProcessIdentity | None = None,
    guard_server: bool = False,
    slurm: SlurmOptions | None = None,
) -> list[str]:
    """A provisioner for this host; with ``owner`` it ends the case when that process is gone for a minute."""
    command = [*_module(PROVISIONER), "--access", str(access)]
    if owner is not None:
        command += ["--owner", json.dumps(owner.to_dict())]
    if slurm is not None:
        command += ["--poll-interval", f"{slurm.poll_interval:g}", "--lookup-time", f"{slurm.lookup_time:g}"]
        command += [word for name in slurm.clusters for word in ("--cluster", name)]
    return command + (["--guard-server"] if guard_server else [])
