"""A real Slurm for tests: `scripts/slurm-cluster`, with what tests do to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.waiting import wait_until

SCRIPT = Path(__file__).parents[2] / "scripts" / "slurm-cluster"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def has_slurm() -> bool:
    return all(shutil.which(program, path=PATH) for program in ("slurmctld", "slurmd", "sbatch", "munged"))


def needs_slurm() -> None:
    """Without Slurm a test is skipped on a laptop and fails in CI."""
    if has_slurm():
        return
    message = "Slurm is not installed (Debian: apt install slurm-wlm munge)"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@dataclass(frozen=True)
class Job:
    """One line of squeue."""

    job: str
    name: str
    state: str
    reason: str
    nodes: str


class SlurmCluster:
    """A cluster of four nodes with four CPUs, ended by :meth:`down`."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self._script("up", "--folder", str(folder), *options)
        self.conf = folder / "slurm.conf"

    def _script(self, *arguments: str) -> None:
        done = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"slurm-cluster {arguments[0]}: {done.stderr}"

    @property
    def state(self) -> dict[str, object]:
        found: dict[str, object] = json.loads((self.folder / "cluster.json").read_text())
        return found

    @property
    def name(self) -> str:
        return str(self.state["name"])

    def run(self, *command: str, check: bool = True) -> str:
        env = {name: value for name, value in os.environ.items() if not name.startswith("SLURM")}
        env |= {"SLURM_CONF": str(self.conf)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0 or not check, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def submit(self, command: str, *options: str) -> str:
        """A job of nobody's, with its output thrown away; its id."""
        return self.run("sbatch", "--parsable", "--output=/dev/null", *options, "--wrap", command).strip()

    def jobs(self, *options: str) -> list[Job]:
        """Jobs that are not over; with ``--states=all`` also those that are."""
        rows = self.run("squeue", "--noheader", "--format=%i|%j|%T|%r|%N", *options).splitlines()
        return [Job(*row.split("|")) for row in rows]

    def states(self) -> dict[str, str]:
        return {job.job: job.state for job in self.jobs("--states=all")}

    # -- faults ---------------------------------------------------------------------------------------------------

    def pid(self, daemon: str) -> int:
        daemons = self.state["daemons"]
        assert isinstance(daemons, dict)
        return int(daemons[daemon]["pid"])

    def pause(self, daemon: str) -> None:
        os.kill(self.pid(daemon), signal.SIGSTOP)

    def resume(self, daemon: str) -> None:
        os.kill(self.pid(daemon), signal.SIGCONT)

    def stop(self, daemon: str) -> None:
        """End a daemon in order: what it knows is saved."""
        self.kill(daemon, signal.SIGTERM)

    def kill(self, daemon: str, signum: int = signal.SIGKILL) -> None:
        os.kill(self.pid(daemon), signum)
        wait_until(lambda: not lives(self.pid(daemon)), 5, what=f"the end of {daemon}")

    def start(self, daemon: str) -> None:
        self._script("start", "--folder", str(self.folder), daemon)

    def fail_node(self, node: str, also: Sequence[int] = ()) -> None:
        """The node is off: slurmd, its steps, and all processes of their jobs, at one moment."""
        doomed = {self.pid(node), *self.processes_on(node), *also}
        for pid in doomed:
            os.kill(pid, signal.SIGSTOP)
        for pid in doomed:
            os.kill(pid, signal.SIGKILL)

    def processes_on(self, node: str) -> set[int]:
        """Processes of jobs on a node, and the steps that they are of."""
        marks = {f"SLURM_CONF={self.conf}".encode(), f"SLURMD_NODENAME={node}".encode()}
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if marks <= set((entry / "environ").read_bytes().split(b"\0")):
                        found.add(int(entry.name))
                        found.add(_parent(int(entry.name)))
                except OSError:
                    continue
        return {pid for pid in found if _is_step_or_below(pid)}

    @contextmanager
    def configured(self, **settings: str) -> Iterator[None]:
        """With other lines in slurm.conf for a while; the controller starts anew."""
        before = self.conf.read_text()
        try:
            self._configure("".join(self._changed(line, settings) for line in before.splitlines(keepends=True)))
            yield
        finally:
            self._configure(before)

    @staticmethod
    def _changed(line: str, settings: Mapping[str, str]) -> str:
        name = line.partition("=")[0]
        return f"{name}={settings[name]}\n" if name in settings else line

    def _configure(self, text: str) -> None:
        self.conf.write_text(text)
        self.stop("slurmctld")
        self.start("slurmctld")
        wait_until(lambda: "UP" in self.run("scontrol", "ping", check=False), 30, what="the controller answers")

    def settle(self) -> None:
        """For the next test: every daemon is there, no job is, every node is idle."""
        for daemon in ("slurmctld", "n1", "n2", "n3", "n4"):
            if lives(self.pid(daemon)):
                self.resume(daemon)
            else:
                self.start(daemon)
        wait_until(lambda: "UP" in self.run("scontrol", "ping", check=False), 30, what="the controller answers")
        self.run("scancel", f"--user={os.geteuid()}", check=False)
        wait_until(self._is_idle, 60, what="an empty queue and idle nodes", interval=0.1)

    def _is_idle(self) -> bool:
        if self.jobs():
            self.run("scancel", f"--user={os.geteuid()}", check=False)
            return False
        nodes = self.run("sinfo", "--noheader", "--Node", "--partition=debug", "--format=%N %T").splitlines()
        for row in nodes:
            name, state = row.split()
            if state.startswith(("down", "drain")):
                self.run("scontrol", "update", f"nodename={name}", "state=resume", check=False)
        return all(row.endswith(" idle") for row in nodes)

    def down(self) -> None:
        self._script("down", "--folder", str(self.folder))


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _is_step_or_below(pid: int) -> bool:
    """Whether a process descends from a slurmstepd: others may have a job's variables, too."""
    while pid > 1:
        try:
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"slurmstepd"):
                return True
            pid = _parent(pid)
        except OSError:
            return False
    return False


def wait_for_state(cluster: SlurmCluster, job: str, *states: str, timeout: float = 30) -> None:
    """Wait until Slurm says so of a job."""
    wait_until(lambda: cluster.states().get(job) in states, timeout, what=f"job {job} is {' or '.join(states)}")


def time_of(cluster: SlurmCluster, job: str, field: str) -> float:
    """A moment of a job, such as EndTime, as Unix seconds."""
    row = cluster.run("scontrol", "--oneliner", "show", "job", job)
    text = next(word.removeprefix(f"{field}=") for word in row.split() if word.startswith(f"{field}="))
    return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))


def wrapped(folder: Path, program: str, body: str) -> Path:
    """A folder for PATH in which a program of Slurm's is a script of ours: ``$REAL`` is the real one, ``$MARKS`` here."""
    folder = folder / "wrapped"
    folder.mkdir(exist_ok=True)
    real = shutil.which(program, path=PATH)
    script = folder / program
    script.write_text(f"#!/bin/bash\nREAL={real}\nMARKS={folder}\n{body}\n")
    script.chmod(0o755)
    return folder


def counting(folder: Path, log: Path) -> Path:
    """A folder for PATH in which each call of Slurm's programs leaves its name in ``log``."""
    for program in ("sbatch", "squeue", "scancel", "sacct", "scontrol", "sinfo"):
        found = wrapped(folder, program, f'echo {program} >> {log}; exec $REAL "$@"')
    return found
