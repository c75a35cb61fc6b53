"""Slurm's programs as processes: what they inherit, and that none of them is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.waiting import wait_until

from gutscore_rs.errors import SlurmMissingError, SlurmUnavailableError
from gutscore_rs.slurm import SlurmClient, Submitted, Unknown
from gutscore_rs.slurm.commands import run

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is of Linux")
FOREIGN = {
    "SLURM_CPU_BIND": "quiet,mask_cpu:0x1",  # goodfire-ai/spd#955: a silent threefold slowdown
    "SLURM_JOB_ID": "77",  # snakemake-executor-plugin-slurm#113
    "SLURM_MEM_PER_CPU": "1",  # biahub#96
    "SLURMD_NODENAME": "n9",
    "SRUN_CPUS_PER_TASK": "8",
    "SBATCH_PARTITION": "nope",  # fact 8: an inherited SBATCH_* beats the script
    "SQUEUE_FORMAT": "%i",
    "SQUEUE_STATES": "RUNNING",
    "SCANCEL_STATE": "PENDING",
    "SACCT_FORMAT": "JobID",
    "SINFO_FORMAT": "%P",
    "SALLOC_ACCOUNT": "x",
    "SLURM_CLUSTERS": "other",
}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text() if sys.platform == "linux" else True


@pytest.mark.parametrize("name", ["sbatch", "squeue", "scancel", "sacct"])
def test_no_variable_of_another_job_reaches_a_program(fake_slurm, monkeypatch, name):
    for variable, value in FOREIGN.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("SLURM_CONF", "/etc/other.conf")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("MINE", "kept")
    fake_slurm.program(name, out="1\n" if name == "sbatch" else "")
    client = SlurmClient()
    {
        "sbatch": lambda: client.submit("#!/bin/sh\n", []),
        "squeue": client.queue,
        "scancel": lambda: client.cancel(["1"]),
        "sacct": lambda: client.history(["t"], 0),
    }[name]()
    seen = fake_slurm.environment(name)
    assert not set(FOREIGN) & set(seen)
    # What sbatch is given the job is given.
    mine = None if name == "sbatch" else "kept"
    assert (seen["SLURM_CONF"], seen["LC_ALL"], seen.get("MINE")) == ("/etc/other.conf", "C", mine)
    # They shape what is read; to sbatch they would be variables of the job.
    reading = {"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"} if name in {"squeue", "sacct"} else {}
    assert {key: value for key, value in seen.items() if key.startswith("SLURM_") and key != "SLURM_CONF"} == reading
    # What was asked of this process's own environment is answered as before (fact 25b).
    assert os.environ["SLURM_JOB_ID"] == "77"


def test_a_program_that_hangs_is_killed_at_its_time_limit_with_what_it_started(fake_slurm):
    """Parsl#1241 and #3814: a client that hangs, or whose child lives on after the client's own time limit."""
    fake_slurm.program("sbatch", then="sleep 300 & echo $! > child; echo $$ > self; wait")
    began = time.monotonic()
    outcome = SlurmClient(submit_timeout=0.5).submit("#!/bin/sh\n", [])
    assert isinstance(outcome, Unknown)
    assert "did not end within 0.5 s" in outcome.words
    assert time.monotonic() - began < 10
    for name in ("self", "child"):
        pid = int((fake_slurm.folder / name).read_text())
        wait_until(lambda pid=pid: not alive(pid), what=f"{name} is gone")


def test_who_left_the_group_and_holds_the_pipes_is_not_waited_for(fake_slurm):
    fake_slurm.program("squeue", then="setsid sleep 20 & echo $! > child; sleep 300")
    began = time.monotonic()
    try:
        with pytest.raises(SlurmUnavailableError, match=r"within 0.3 s"):
            SlurmClient(timeout=0.3).queue()
        assert time.monotonic() - began < 10
    finally:
        os.kill(int((fake_slurm.folder / "child").read_text()), signal.SIGKILL)


@LINUX
def test_an_sbatch_dies_with_the_process_that_waits_for_it(fake_slurm):
    """A killed provisioner leaves no sbatch that submits later (rulings 17)."""
    fake_slurm.program("sbatch", then="echo $$ > self; exec sleep 300")
    code = "from gutscore_rs.slurm import SlurmClient; SlurmClient().submit('#!/bin/sh\\n', [])"
    env = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    caller = subprocess.Popen([sys.executable, "-c", code], env=env)
    mark = fake_slurm.folder / "self"
    try:
        pid = int(wait_until(lambda: mark.exists() and mark.read_text().strip(), what="sbatch runs"))
        assert alive(pid)
    finally:
        caller.kill()
        caller.wait()
    wait_until(lambda: not alive(pid), what="sbatch is gone")


def test_an_interrupt_leaves_no_program_behind(fake_slurm):
    fake_slurm.program("sbatch", then="echo $$ > self; exec sleep 300")
    code = (
        "import signal; from gutscore_rs.slurm import SlurmClient; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "try: SlurmClient().submit('#!/bin/sh\\n', [])\nexcept KeyboardInterrupt: print('interrupted')"
    )
    env = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    caller = subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True)
    mark = fake_slurm.folder / "self"
    try:
        pid = int(wait_until(lambda: mark.exists() and mark.read_text().strip(), what="sbatch runs"))
        caller.send_signal(signal.SIGINT)
        assert caller.communicate(timeout=20)[0] == "interrupted\n"
        assert not alive(pid)
    finally:
        caller.kill()
        caller.wait()


def test_a_program_that_reads_nothing_and_a_large_script_are_no_error(fake_slurm):
    path = fake_slurm.folder / "sbatch"
    path.write_text("#!/bin/sh\necho 12\n")
    path.chmod(0o755)
    assert SlurmClient().submit("#!/bin/sh\n" + "#" * 500_000, []) == Submitted("12", "")


def test_a_file_that_cannot_be_run_is_as_good_as_none(fake_slurm):
    (fake_slurm.folder / "squeue").write_text("#!/bin/sh\n")
    with pytest.raises(SlurmMissingError, match="squeue"):
        SlurmClient().queue()


def test_words_of_any_bytes_and_length_are_shown_short():
    done = run(["sh", "-c", "printf '\\377oops\\n' >&2; head -c 9000 /dev/zero | tr '\\0' x; exit 3"], timeout=20)
    assert done.code == 3
    assert done.words.startswith("\ufffdoops")
    assert len(done.words) == 2000
    silent = run(["sh", "-c", "exit 4"], timeout=20)
    assert silent.words == "sh ended with exit code 4 and said nothing."
