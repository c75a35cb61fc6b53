"""``extra_directives``: options of sbatch that the description has no key for.

Names are taken as people write them (``nice``, ``--nice``, ``-A``) and kept in their long form without
dashes. Options that this library sets itself are refused: two values for one option would make the one that
wins a matter of Slurm's version.
"""

from __future__ import annotations

import re

from gutscore_rs.config.checks import finite, table, text

MAX_VALUE = 1024
MAX_DIRECTIVES = 64

# sbatch(1), OPTIONS: every option that has a letter.
_LONG = {
    "A": "account", "a": "array", "B": "extra-node-info", "b": "begin", "C": "constraint", "c":
    "cpus-per-task", "D": "chdir", "d": "dependency", "e": "error", "F": "nodefile", "G": "gpus", "H":
    "hold", "h": "help", "i": "input", "J": "job-name", "k": "no-kill", "L": "licenses", "M":
    "clusters", "m": "distribution", "N": "nodes", "n": "ntasks", "O": "overcommit", "o": "output", "p":
    "partition", "Q": "quiet", "q": "qos", "S": "core-spec", "s": "oversubscribe", "t": "time", "V":
    "version", "v": "verbose", "W": "wait", "w": "nodelist", "x": "exclude",
}  # fmt: skip

_HAS_KEY = {
    "account": "account", "partition": "partition", "qos": "qos", "constraint": "constraint", "nodes":
    "nodes", "mem": "mem", "gpus-per-node": "gpus_per_node", "time": "runtime", "clusters": "cluster",
    "cluster": "cluster", "cpus-per-task": "cpus_per_worker", "ntasks": "nworkers", "ntasks-per-node":
    "nworkers", "array": "array_throttle",
}  # fmt: skip

_OURS = frozenset({
    "job-name", "comment", "dependency", "output", "error", "signal", "export", "export-file",
    "get-user-env", "wrap", "parsable", "test-only", "wait", "quiet", "verbose", "help", "usage",
    "version", "uid", "gid", "no-requeue",
})  # fmt: skip

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,63}", re.ASCII)


def long_name(key: object) -> str:
    """The long name of an option, without dashes.

    Raises:
        ValueError: No option has such a name.
    """
    word = text(key).removeprefix("--").removeprefix("-")
    name = _LONG.get(word, word).replace("_", "-")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{word[:64]!r} is no option of sbatch; write its long name, such as 'nice' or 'exclusive'")
    return name.lower()


def directives(value: object) -> dict[str, str | bool]:
    """Options by long name; True stands for an option without a value.

    Raises:
        ValueError: A name or value that cannot be, or an option that is not to be set here.
    """
    given = table(value)
    if len(given) > MAX_DIRECTIVES:
        raise ValueError(f"must be a table of at most {MAX_DIRECTIVES} options, not {len(given)}")
    out: dict[str, str | bool] = {}
    for key, setting in given.items():
        name = long_name(key)
        if name in out:
            raise ValueError(f"sets {name!r} twice")
        if name in _HAS_KEY:
            raise ValueError(f"must not set {name!r}; the key {_HAS_KEY[name]!r} of the description does")
        if name in _OURS:
            raise ValueError(f"must not set {name!r}, which the batch script needs for itself")
        out[name] = _setting(name, setting)
    return out


def _setting(name: str, value: object) -> str | bool:
    if value is True or value == "":
        return True
    if value is False or not isinstance(value, str | int | float) or not finite(value):
        raise ValueError(f"{name!r} must have text or a number as its value, or true for an option without one")
    try:
        written = text(str(value), longest=MAX_VALUE)
    except ValueError as error:
        raise ValueError(f"{name!r} {error}") from error
    if "\\" in written:
        raise ValueError(f"{name!r} must not hold a backslash, which sbatch reads as an escape")
    return written
