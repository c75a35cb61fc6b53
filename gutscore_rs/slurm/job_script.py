"""The batch script of a resource set: a pure function of its description.

The script holds no secret: it names the access file, and the launchers read that. The description's
environment variables are not in it either; each launcher sets them from the description in Redis.

Rules of Slurm that it follows, by the manual page that states them:

* sbatch(1), INPUT ENVIRONMENT VARIABLES: an inherited ``SBATCH_*`` variable beats a ``#SBATCH`` line, and an
  option on the command line beats both. So the same options exist as :func:`command_line_options`.
* sbatch(1), ``--dependency=singleton``: jobs of one name and user run one after the other. The name is the
  token of the submission, so a submission that happened twice can never run twice at once.
* sbatch(1), ``--export``: with a list of names, or NONE, slurmd logs the user in for each job to learn the others
  (`su -`, seen with 22.05), and steps inherit the restriction. So ``ALL`` is exported, of an environment that the
  client makes: :data:`~gutscore_rs.slurm.commands.SUBMITTED` and nothing else.
* sbatch(1), ``--signal=B:``: only the batch shell gets the early signal, so it passes it on.
* srun(1): from 22.05 to 23.02 srun ignores ``SLURM_CPUS_PER_TASK``, so it is told again.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from gutscore_rs.durations import format_slurm_time
from gutscore_rs.errors import ConfigError
from gutscore_rs.slurm.job_ids import check_token

SHELL = "/bin/bash"
# Between the early signal and the end: the drain, and then this for stopping what did not end by itself.
STOP_SECONDS = 10
_MAX_SIGNAL_SECONDS = 65535
# Variable of the job: Unix second at which its script began.
JOB_START = "GUTSCORE_RS_JOB_START"
# Variable of a step in an allocation: Unix second of the allocation's time limit, 0: not known.
JOB_END = "GUTSCORE_RS_JOB_END"

# bash runs a trap only between commands, so the step runs in the background and the shell waits; a signal
# ends the wait early (hence the loop). TERM is passed on as USR1 as well: srun itself answers TERM by killing
# the step at once (seen with 22.05.8, "forcing job termination").
_BODY = """\
_step=
_stop=
_signalled=
_pass_on() {{
    _stop=1
    _signalled=1
    if [ -n "$_step" ]; then kill -s USR1 "$_step" 2>/dev/null; fi
}}
trap _pass_on USR1 TERM

export SLURM_EXPORT_ENV=ALL
export {job_start}="${{EPOCHSECONDS:-$(date +%s)}}"
{exports}{pre}
_status=0
if [ -z "$_stop" ]; then
    {srun} &
    _step=$!
    # A signal may have come after the start and before its number was known.
    if [ -n "$_stop" ]; then _pass_on; fi
    _status=127
    while :; do
        _signalled=
        wait "$_step"
        _code=$?
        # 127: an earlier round has already told how it ended.
        if [ "$_code" -ne 127 ]; then _status=$_code; fi
        if [ -z "$_signalled" ]; then break; fi
    done
    _step=
fi
{post}
exit "$_status"
"""


def build_job_script(
    spec: Mapping[str, Any],
    *,
    name: str,
    token: str,
    command: Sequence[str],
    log_dir: str,
    array_size: int = 1,
    limit: int | None = None,
    exports: Mapping[str, str] | None = None,
    shell: str = SHELL,
) -> str:
    """The batch script that starts one launcher on each node of the job.

    Args:
        spec: The description, as :meth:`~gutscore_rs.config.SlurmDescription.to_spec` gives it.
        name: What the job is, for the people who read the script.
        token: Names the submission; becomes the job's name and comment.
        command: The launcher's argument list; its program must be an absolute path: PATH differs on nodes.
        log_dir: Existing folder for the job's output, as the nodes see it.
        array_size: Number of sets that this submission holds, one array task each.
        limit: Time limit in seconds; None: the description's runtime.
        exports: Variables that the launchers are given; no secret may be among them.
        shell: Run as a login shell, so that ``module`` and the like are there.

    Raises:
        ConfigError: A text that a script cannot hold, or a relative path.
    """
    options = command_line_options(spec, token=token, log_dir=log_dir, array_size=array_size, limit=limit)
    if not command:
        raise ConfigError("The batch script needs the launcher's command, which is empty.")
    _absolute(command[0], "program of the launcher's command")
    if " " in shell:
        raise ConfigError(f"The shell {shell[:200]!r} must be a path without spaces, since it follows '#!'.")
    lines = [
        f"#!{_absolute(shell, 'shell')} -l",
        *(f"#SBATCH {shlex.quote(option)}" for option in options),
        "",
        f"# {_line(name, 'name')}; written by gutscore_rs, see `gutscore-rs script`.",
        _BODY.format(
            job_start=JOB_START,
            exports=_exports(exports or {}),
            pre=_block("pre_cmd_list", spec),
            srun=_srun(spec, [_line(word, "launcher's command") for word in command]),
            post=_block("post_cmd_list", spec),
        ),
    ]
    return "\n".join(lines)


def command_line_options(
    spec: Mapping[str, Any], *, token: str, log_dir: str, array_size: int = 1, limit: int | None = None
) -> list[str]:
    """The options of the script for sbatch's command line, unquoted, one argument each.

    Raises:
        ConfigError: A text that a script cannot hold, or a relative path.
    """
    seconds = int(spec["runtime"]) if limit is None else limit
    given = {**_ours(spec, token, log_dir, array_size, seconds), **_asked(spec, seconds)}
    return [f"--{_line(option, 'option')}" + _value(option, value) for option, value in given.items()]


def _value(option: str, value: object) -> str:
    return "" if value is True else f"={_line(str(value), f'option {option}')}"


def _ours(spec: Mapping[str, Any], token: str, log_dir: str, array_size: int, seconds: int) -> dict[str, object]:
    """The options that make the job ours."""
    check_token(token)
    folder = _absolute(log_dir, "log folder").rstrip("/")
    # In these two, % begins a placeholder and %% is a plain one.
    log = folder.replace("%", "%%") + ("/slurm-%A_%a" if array_size > 1 else "/slurm-%j")
    out: dict[str, object] = {
        "job-name": token,
        "comment": token,
        "dependency": "singleton",
        "chdir": _absolute(str(spec.get("cwd") or folder), "current folder"),
        "output": f"{log}.out",
        "error": f"{log}.err",
        "export": "ALL",
        "signal": f"B:USR1@{_signal_seconds(spec, seconds)}",
    }
    if "requeue" not in spec.get("extra_directives", {}):
        out["no-requeue"] = True
    if array_size > 1:
        throttle = spec.get("array_throttle")
        out["array"] = f"0-{array_size - 1}" + (f"%{throttle}" if throttle else "")
    return out


def _asked(spec: Mapping[str, Any], seconds: int) -> dict[str, object]:
    """The options that the description asks for."""
    nodes = spec.get("nodes", 1)
    out: dict[str, object | None] = {
        "time": format_slurm_time(seconds),
        "nodes": nodes,
        "ntasks": nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": _cpus_per_node(spec),
        "mem": spec.get("mem"),
        "gpus-per-node": spec.get("gpus_per_node") or _gpus_per_node(spec),
        "partition": spec.get("partition"),
        "account": spec.get("account"),
        "qos": spec.get("qos"),
        "constraint": spec.get("constraint"),
        **spec.get("extra_directives", {}),
    }
    return {option: value for option, value in out.items() if value is not None}


def workers_per_node(spec: Mapping[str, Any]) -> int:
    """Workers on the node that has most of them."""
    workers, nodes = int(spec["nworkers"]), int(spec.get("nodes", 1))
    return math.ceil(workers / nodes)


def _cpus_per_node(spec: Mapping[str, Any]) -> int:
    return workers_per_node(spec) * int(spec.get("cpus_per_worker") or 1)


def _gpus_per_node(spec: Mapping[str, Any]) -> int | None:
    return workers_per_node(spec) * int(spec.get("gpus_per_worker") or 0) or None


def _signal_seconds(spec: Mapping[str, Any], seconds: int) -> int:
    wanted = math.ceil(float(spec.get("drain_timeout", 0))) + STOP_SECONDS
    half = seconds // 2
    return max(1, min(int(wanted), _MAX_SIGNAL_SECONDS, half))


def _srun(spec: Mapping[str, Any], command: Sequence[str]) -> str:
    return shlex.join(_srun_words(spec, command))


def step_words(spec: Mapping[str, Any], command: Sequence[str], *, job_id: str) -> list[str]:
    """The srun of a set inside an allocation; its steps share the nodes with each other and with the batch script.

    Raises:
        ConfigError: The program of the command is no absolute path.
    """
    _absolute(command[0], "program of the launcher's command")
    # --overlap: without it a step waits for CPUs that another one, or the shell of salloc, holds (srun(1)).
    return _srun_words(spec, command, f"--jobid={job_id}", "--overlap")


def _srun_words(spec: Mapping[str, Any], command: Sequence[str], *options: str) -> list[str]:
    """One launcher per node, which hands the node's CPUs and memory to its workers itself."""
    nodes = spec.get("nodes", 1)
    return [
        "srun",
        *options,
        f"--nodes={nodes}",
        f"--ntasks={nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={_cpus_per_node(spec)}",
        "--cpu-bind=none",
        "--mem=0",
        "--no-kill",
        "--kill-on-bad-exit=0",
        *command,
    ]


def _exports(variables: Mapping[str, str]) -> str:
    lines = [f"export {name}={shlex.quote(_line(value, name))}\n" for name, value in variables.items()]
    return "".join(lines)


def _block(key: str, spec: Mapping[str, Any]) -> str:
    commands = [_line(command, key) for command in spec.get(key, ())]
    return "\n".join(["", f"# {key}", *commands, ""]) if commands else ""


def _absolute(path: str, what: str) -> str:
    if not PurePosixPath(_line(path, what)).is_absolute():
        raise ConfigError(f"The {what} {path[:200]!r} must be an absolute path: nodes have folders of their own.")
    if "\\" in path:
        raise ConfigError(f"The {what} {path[:200]!r} must not hold a backslash, which sbatch reads as an escape.")
    return path


def _line(text: str, what: str) -> str:
    if not text or not text.isprintable():
        raise ConfigError(f"The {what} {text[:64]!r} must be one line of printable text to stand in a batch script.")
    return text
