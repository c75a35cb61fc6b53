"""The processes of ``workers/``, as command lines: the library starts them and never imports them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

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


def provisioner_command(access: Path, *, owner: ProcessIdentity | None = None, guard_server: bool = False) -> list[str]:
    """A provisioner for this host; with ``owner`` it ends the case when that process is gone for a minute."""
    command = [*_module(PROVISIONER), "--access", str(access)]
    if owner is not None:
        command += ["--owner", json.dumps(owner.to_dict())]
    return command + (["--guard-server"] if guard_server else [])
