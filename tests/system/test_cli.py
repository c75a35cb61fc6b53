"""The command line as a user runs it, on an embedded server of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from support.processes import survivors
from support.shell import Shell
from support.waiting import wait_until

from gutscore_rs.processes import kill_marked


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    folder = tmp_path / "here"
    folder.mkdir()
    shell = Shell(tmp_path / "s", folder)
    yield shell
    if (shell.state / "cases" / "cli" / "access.json").exists():
        shell("down", "cli", "--purge")
    assert not kill_marked(f"{shell.state}/cases/", prefix=True)


@pytest.fixture
def up(shell: Shell) -> Shell:
    """A case that is up, with its four workers."""
    shell("up", shell.toml())
    shell("request", shell.toml(), "--wait")
    return shell


def test_up_request_look_release_down(up: Shell) -> None:
    count = up.json("count", "cli")
    assert count == {
        "schema": 1,
        "case": "cli",
        "active": 4,
        "expected": 4,
        "by_resource_set": {
            "0": {"active": 2, "expected": 2, "state": "active"},
            "1": {"active": 2, "expected": 2, "state": "active"},
        },
        "by_host": {"cli-host": 4},
    }
    workers = up.json("workers", "cli")
    assert workers["schema"] == 1
    assert [(row["resource_set"], row["index"]) for row in workers["workers"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert set(workers["workers"][0]) == {
        "resource_set",
        "index",
        "host",
        "pid",
        "started_at",
        "state",
        "job",
        "member",
    }
    status = up.json("status", "cli")
    assert [row["state"] for row in status["resource_sets"]] == ["active", "active"]
    assert status["provisioners"][0]["serves"] == ["cli-host"]
    assert {"requested", "active"} <= {row["state"] for row in up.json("events", "cli")["events"]}
    assert any("launcher.log" in row["file"] for row in up.json("logs", "cli")["logs"])
    assert "4" in up("count", "cli").stdout
    for command in ("workers", "status", "events", "logs"):
        assert "cli" in up(command, "cli").stdout
    released = up.json("release", "cli", "--set", "1")
    assert (released["active"], released["expected"]) == (2, 2)
    again = up.json("request", "cli", "--set", "1", "--wait")
    assert (again["active"], again["expected"]) == (4, 4)
    pids = [row["pid"] for row in workers["workers"]]
    assert "down" in up("down", "cli").stdout
    assert not survivors(pids)
    up("count", "cli", code=73)


def test_up_twice_is_one_server_and_one_provisioner(up: Shell) -> None:
    before = up.json("status", "cli")["provisioners"]
    assert up.json("up", up.toml())["started_server"] is False
    assert up.json("status", "cli")["provisioners"] == before


def test_two_ups_at_once_end_in_one_case(shell: Shell) -> None:
    command = [sys.executable, "-m", "gutscore_rs", "up", shell.toml(), "--json"]
    both = [subprocess.Popen(command, env=shell.env, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert sorted(answer["started_server"] for answer in answers) == [False, True]
    assert len({answer["redis"] for answer in answers}) == 1


def test_an_up_after_a_crash_finds_its_data_again(up: Shell) -> None:
    record = json.loads((up.state / "cases/cli/server/record.json").read_text())
    os.kill(record["identity"]["pid"], 9)
    wait_until(lambda: not Path(record["socket"]).exists() or up_fails(up), what="the server is gone")
    up("up", up.toml())
    # The workers live on; their launchers find the server again and renew their leases.
    wait_until(lambda: up.json("count", "cli")["active"] == 4, 20, what="the four workers are counted again")


def up_fails(shell: Shell) -> bool:
    return (
        subprocess.run(
            [sys.executable, "-m", "gutscore_rs", "count", "cli"], env=shell.env, capture_output=True, check=False
        ).returncode
        != 0
    )


def test_the_socket_and_every_file_with_a_secret_are_private(up: Shell) -> None:
    root = up.state / "cases" / "cli"
    for name in ("access.json", "server/server.conf", "logs/provisioner.log"):
        assert (root / name).stat().st_mode & 0o077 == 0, name
    assert root.stat().st_mode & 0o077 == 0
    key = json.loads((root / "access.json").read_text())["signing_key"]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            assert key not in (process / "cmdline").read_text() + (process / "environ").read_text(errors="replace")
        except OSError:
            continue


def test_nothing_is_written_into_the_current_folder(up: Shell) -> None:
    assert [path.name for path in up.folder.iterdir()] == ["case.toml"]


def test_a_request_of_sets_that_are_up_is_refused_and_names_them(up: Shell) -> None:
    answer = up("request", up.toml(), code=75)
    assert "Resource set 0 of case 'cli' is active" in answer.stderr


def test_a_case_that_does_not_run_is_named_with_the_remedy(shell: Shell) -> None:
    answer = shell("count", "nothing", code=73)
    assert "'nothing' does not run here" in answer.stderr
    assert "gutscore-rs up nothing" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_wrong_configuration_names_file_key_and_nearest_name(shell: Shell) -> None:
    answer = shell("up", shell.toml('[case]\nname = "cli"\n[resource.config]\nnworker = 2\n'), code=65)
    assert "case.toml" in answer.stderr
    assert "nworkers" in answer.stderr


def test_forget_refuses_while_workers_live_and_removes_every_key_afterwards(up: Shell) -> None:
    assert "release it" in up("forget", "cli", code=75).stderr
    up("release", "cli")
    up("forget", "cli")
    assert up.json("status", "cli")["resource_sets"] == []


def test_script_prints_what_sbatch_would_get(shell: Shell) -> None:
    toml = '[case]\nname = "cli"\n[resource]\nbackend = "slurm"\n[resource.config]\nnworkers = 4\nnodes = 2\nruntime = "30"\n'
    text = shell("script", shell.toml(toml)).stdout
    assert text.startswith("#!")
    assert "#SBATCH --nodes=2" in text
    assert "batch script" in shell("script", shell.toml(), code=65).stderr


def test_doctor_reports_the_host_and_the_case(up: Shell) -> None:
    findings = {row["topic"]: row for row in up.json("doctor", "cli")["findings"]}
    assert findings["redis"]["level"] == "ok"
    assert findings["provisioner"]["text"].endswith("serves cli-host")
    assert findings["connections"]["level"] == "ok"
    assert "ok" in up("doctor").stdout


def test_help_lists_every_command_and_each_has_its_own(shell: Shell) -> None:
    text = shell("--help").stdout
    for command in (
        "run",
        "up",
        "down",
        "request",
        "release",
        "status",
        "workers",
        "count",
        "events",
        "logs",
        "script",
        "provisioner",
        "doctor",
    ):
        assert f"  {command} " in text
        assert "Usage" in shell(command, "--help").stdout


def test_events_can_be_followed(up: Shell) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "gutscore_rs", "events", "cli", "--follow", "--json", "-n", "1"],
        env=up.env,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert first["kind"] in ("event", "lost")
        up("release", "cli", "--set", "0")
        states = [json.loads(process.stdout.readline())["state"] for _ in range(2)]
        assert states == ["releasing", "released"]
    finally:
        process.terminate()
        process.wait()


def test_a_provisioner_in_the_foreground_ends_with_ctrl_c(up: Shell) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "gutscore_rs", "provisioner", "cli"], env=up.env, stderr=subprocess.DEVNULL
    )
    wait_until(lambda: len(up.json("status", "cli")["provisioners"]) == 2, 20, what="two provisioners are registered")
    process.send_signal(2)
    assert process.wait(timeout=15) == 0
    assert len(up.json("status", "cli")["provisioners"]) == 1


def test_down_ends_everything_even_with_garbage_in_redis(up: Shell) -> None:
    record = json.loads((up.state / "cases/cli/server/record.json").read_text())
    pids = [row["pid"] for row in up.json("workers", "cli")["workers"]]
    with redis.Redis(unix_socket_path=record["socket"]) as client:
        client.hset("gutscore:{cli}:resource_set:0", "nworkers", "many")
    assert "'nworkers'" in up("count", "cli", code=65).stderr
    assert "'nworkers'" in up("down", "cli", "--purge", code=75).stderr
    assert not survivors(pids)
    assert not (up.state / "cases" / "cli").exists()
