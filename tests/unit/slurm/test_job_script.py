from __future__ import annotations

import difflib
import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.waiting import wait_until

from gutscore_rs.config import resource_description
from gutscore_rs.errors import ConfigError
from gutscore_rs.slurm import build_job_script, command_line_options

GOLDEN = Path(__file__).parent / "golden"
COMMAND = [
    "/opt/env/bin/python",
    "-P",
    "-m",
    "gutscore_rs_workers.workergroup",
    "--access",
    "/home/ada/.state/access",
]

CASES = {
    "plain": {},
    "spread": {
        "nworkers": 10, "nodes": 3, "runtime": "1-12:30", "cpus_per_worker": 2, "gpus_per_worker": 1, "mem": "16G",
        "partition": "gpu,cpu", "account": "physics", "qos": "long", "constraint": "intel&ib", "cluster": "alps",
        "drain_timeout": 90, "env": {"API_KEY": "do-not-write-me"},
    },
    "commands": {
        "pre-cmd-list": ["module load python/3.11", "export OMP_PLACES='cores'"], "post-cmd-list": ['echo "done: $?"'],
        "extra-directives": {"--nice": 0, "exclusive": "", "x": "node[1-3]", "requeue": True, "reservation": "it's #1"},
        "gpus-per-node": "a100:2", "runtime": 61,
    },
    "array": {"nworkers": 2, "array_throttle": 3},
}  # fmt: skip
ARRAY_SIZES = {"array": 5}


def spec(**config):
    return resource_description(config, "slurm").to_spec()


def script(config, **changes):
    values = {
        "name": "double_well, resource set 1",
        "token": "gutscore-ab12",
        "command": COMMAND,
        "log_dir": "/home/ada/logs",
    }
    return build_job_script(resource_description(config, "slurm").to_spec(), **(values | changes))


@pytest.mark.parametrize("case", CASES)
def test_the_script_is_the_recorded_one(case):
    recorded = GOLDEN / f"{case}.sh"
    now = script(CASES[case], array_size=ARRAY_SIZES.get(case, 1))
    if os.environ.get("RENEW_GOLDEN"):
        recorded.write_text(now)
    before = recorded.read_text()
    difference = "\n".join(
        difflib.unified_diff(before.splitlines(), now.splitlines(), str(recorded), "now", lineterm="")
    )
    assert now == before, (
        f"{difference}\nIf this is meant, renew with: RENEW_GOLDEN=1 pytest {__file__}, and read the diff"
    )


@pytest.mark.skipif(not shutil.which("bash"), reason="no bash")
@pytest.mark.parametrize("case", CASES)
def test_every_recorded_script_is_valid_bash(case):
    run = subprocess.run(["bash", "-n", GOLDEN / f"{case}.sh"], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")


def test_the_same_options_stand_in_the_script_and_on_the_command_line():
    for case, config in CASES.items():
        size = ARRAY_SIZES.get(case, 1)
        options = command_line_options(spec(**config), token="gutscore-ab12", log_dir="/home/ada/logs", array_size=size)
        lines = [line for line in script(config, array_size=size).splitlines() if line.startswith("#SBATCH ")]
        assert [shlex.split(line.removeprefix("#SBATCH ")) for line in lines] == [[option] for option in options]
        assert len({option.partition("=")[0] for option in options}) == len(options)


def test_what_keeps_a_submission_single_is_always_there():
    options = command_line_options(spec(), token="tok", log_dir="/l")
    assert {"--job-name=tok", "--comment=tok", "--dependency=singleton", "--no-requeue"} <= set(options)
    assert "--output=/l/slurm-%j.out" in options
    assert "--error=/l/slurm-%j.err" in options


def test_requeue_can_be_asked_for_and_then_is_not_denied():
    options = command_line_options(spec(extra_directives={"requeue": True}), token="tok", log_dir="/l")
    assert "--requeue" in options
    assert "--no-requeue" not in options


def test_workers_get_their_cpus_and_gpus_on_the_fullest_node():
    options = command_line_options(
        spec(nworkers=10, nodes=3, cpus_per_worker=2, gpus_per_worker=1), token="t", log_dir="/l"
    )
    assert {
        "--nodes=3",
        "--ntasks=3",
        "--ntasks-per-node=1",
        "--cpus-per-task=8",
        "--gpus-per-node=4",
    } <= set(options)


def test_a_request_for_no_gpus_asks_slurm_for_none():
    assert not any(
        "gpus" in option for option in command_line_options(spec(gpus_per_worker=0), token="t", log_dir="/l")
    )


@pytest.mark.parametrize(
    ("runtime", "drain", "seconds"),
    [(3600, 5, 15), (3600, 4.2, 15), (10, 60, 5), (1, 5, 1), (10**6, 80000, 65535)],
)
def test_the_early_signal_leaves_time_to_drain_within_slurms_bounds(runtime, drain, seconds):
    options = command_line_options(spec(runtime=runtime, drain_timeout=drain), token="t", log_dir="/l")
    assert f"--signal=B:USR1@{seconds}" in options


def test_percent_signs_of_a_log_folder_are_no_placeholders():
    options = command_line_options(spec(), token="t", log_dir="/l/100%j/")
    assert "--output=/l/100%%j/slurm-%j.out" in options


def test_an_array_writes_a_log_per_task_and_is_throttled():
    options = command_line_options(spec(array_throttle=2), token="t", log_dir="/l", array_size=4)
    assert "--array=0-3%2" in options
    assert "--output=/l/slurm-%A_%a.out" in options
    assert not any(
        o.startswith("--array") for o in command_line_options(spec(array_throttle=2), token="t", log_dir="/l")
    )


def test_no_environment_value_and_no_secret_is_written():
    text = script(CASES["spread"])
    assert "do-not-write-me" not in text
    assert "API_KEY" not in text


@pytest.mark.parametrize(
    "changes",
    [
        {"token": ""}, {"token": "a b"}, {"token": "a,b"}, {"token": "a\nb"}, {"token": "x" * 129}, {"token": "ä"},
        {"log_dir": "logs"}, {"log_dir": "/a\\b"}, {"log_dir": "/a\nb"}, {"log_dir": ""}, {"log_dir": "/a\0"},
        {"command": []}, {"command": ["python"]}, {"command": ["/bin/true", "a\nb"]}, {"command": ["/bin/true", "\0"]},
        {"command": ["/bin/true", ""]}, {"name": "a\nrm -rf /"}, {"name": "\0"}, {"name": ""},
        {"shell": "bash"}, {"shell": "/bin/my bash"}, {"shell": "/bin/bash\nrm"},
    ],
)  # fmt: skip
def test_what_a_script_cannot_hold_is_refused(changes):
    with pytest.raises(ConfigError):
        script({}, **changes)


def test_commands_of_a_description_that_was_not_checked_cannot_add_lines():
    bad = spec() | {"pre_cmd_list": ["true\nrm -rf /"]}
    with pytest.raises(ConfigError, match="pre_cmd_list"):
        build_job_script(bad, name="n", token="t", command=COMMAND, log_dir="/l")
    with pytest.raises(ConfigError, match="option"):
        build_job_script(spec() | {"partition": "a\n#SBATCH --x"}, name="n", token="t", command=COMMAND, log_dir="/l")


@given(
    st.lists(
        st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1).filter(str.isprintable),
        max_size=4,
    )
)
def test_any_argument_reaches_the_launcher_as_it_is(arguments):
    line = next(line for line in script({}, command=["/bin/launcher", *arguments]).splitlines() if "srun --" in line)
    words = shlex.split(line)
    assert words[words.index("/bin/launcher") + 1 : -1] == arguments
    assert words[-1] == "&"


@pytest.fixture
def run_script(tmp_path):
    """Start a script under bash with a fake srun that notes its arguments and signals; ends what is left."""
    if not shutil.which("bash"):
        pytest.skip("no bash")
    started = []

    def start(config, srun_body, path=None):
        fake = tmp_path / "bin" / "srun"
        fake.parent.mkdir()
        fake.write_text(f"#!/bin/bash\n{srun_body}\n")
        fake.chmod(0o755)
        file = tmp_path / "job.sh"
        file.write_text(script(config, command=["/bin/launcher", "with space"]))
        env = {"PATH": path or f"{fake.parent}:{os.environ['PATH']}", "OUT": str(tmp_path)}
        process = subprocess.Popen(
            [shutil.which("bash"), file],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_the_script_ends_with_the_status_of_the_step_after_the_post_commands(run_script, tmp_path):
    process = run_script(
        {"pre_cmd_list": ["export SEEN=yes"], "post_cmd_list": ["touch $OUT/post"]},
        'printf "%s\\n" "$@" "$SEEN" > $OUT/args; exit 7',
    )
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (7, "")
    arguments = (tmp_path / "args").read_text().splitlines()
    assert arguments[-3:] == ["/bin/launcher", "with space", "yes"]
    assert (tmp_path / "post").exists()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_signals_reach_the_step_as_usr1_and_its_own_end_is_waited_for(run_script, tmp_path, number):
    body = (
        "trap 'echo x >> $OUT/got' USR1; touch $OUT/up; until [ -e $OUT/leave ]; do read -t 0.02 <> <(:); done; exit 3"
    )
    process = run_script({"post_cmd_list": ["touch $OUT/post"]}, body)
    wait_until((tmp_path / "up").exists, what="the step")
    received = tmp_path / "got"
    process.send_signal(number)
    wait_until(lambda: received.exists() and len(received.read_text().split()) == 1, what="the first signal")
    process.send_signal(number)
    wait_until(lambda: len(received.read_text().split()) == 2, what="the second signal")
    assert process.poll() is None
    (tmp_path / "leave").touch()
    process.communicate(timeout=10)
    assert process.returncode == 3
    assert (tmp_path / "post").exists()


def test_a_signal_during_the_pre_commands_starts_no_workers(run_script, tmp_path):
    process = run_script(
        {"pre_cmd_list": ["touch $OUT/pre", "until [ -e $OUT/go ]; do read -t 0.02 <> <(:); done"]},
        "touch $OUT/ran",
    )
    wait_until((tmp_path / "pre").exists, what="the pre command")
    process.send_signal(signal.SIGUSR1)
    (tmp_path / "go").touch()
    process.communicate(timeout=10)
    assert process.returncode == 0
    assert not (tmp_path / "ran").exists()


def test_a_missing_srun_is_a_failure(run_script, tmp_path):
    process = run_script({}, "", path=str(tmp_path / "nowhere"))
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 127
    assert "srun" in errors
