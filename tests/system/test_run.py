"""``gutscore-rs run``: from nothing to nothing, whatever happens in between."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import read_pids, survivors
from support.waiting import wait_until

from gutscore_rs.processes import kill_marked, marked_processes

EXAMPLE = Path(__file__).parents[2] / "examples" / "double_well" / "case.toml"
DRIVER = """
import time
from support import jobs

def main(manager, options, output):
    what = options["what"]
    manager.progress("begins " + what)
    (output / "begun").write_text(str(manager.count()))
    if what == "raise":
        raise ValueError("a driver's own mistake")
    if what == "sleep":
        job = manager.enqueue(jobs.start_offspring, str(output / "offspring"))
        list(manager.as_completed([job], timeout=30))
        (output / "asleep").write_text("")
        time.sleep(120)
    if what == "wait":
        job = manager.enqueue(jobs.start_offspring, str(output / "offspring"))
        list(manager.as_completed([job], timeout=30))
        (output / "asleep").write_text("")
        list(manager.as_completed([manager.enqueue(jobs.sleep, 100)], timeout=100))
    done = list(manager.as_completed([manager.enqueue(jobs.square, n) for n in range(20)], timeout=30))
    return {"sum": sum(job.return_value() for job in done), "active": manager.count(), "path": output}
"""
CASE = """
[case]
name = "run_test"
[resource]
nwgroups = 2
[resource.config]
nworkers = 2
runtime = "10"
drain_timeout = 1
path = ["{tests}"]
[driver]
function = "own_driver:main"
[driver.options]
what = "{what}"
"""


class Run:
    """A run of a case with an own state folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "s"
        self.output = folder / "out"
        self.state.mkdir()
        (folder / "own_driver.py").write_text(DRIVER)

    @property
    def env(self) -> dict[str, str]:
        return dict(os.environ) | {
            "GUTSCORE_RS_STATE_DIR": str(self.state),
            "GUTSCORE_RS_RUNTIME_DIR": str(self.state),
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
        }

    def start(self, what: str = "work", *arguments: str) -> subprocess.Popen[str]:
        case = self.folder / "case.toml"
        case.write_text(CASE.format(what=what, tests=Path(__file__).parents[1]))
        command = [sys.executable, "-m", "gutscore_rs", "run", str(case), "--output", str(self.output), *arguments]
        return subprocess.Popen(
            command,
            env=self.env,
            cwd=self.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def left_behind(self) -> list[object]:
        """Processes, and files of the case; the host's name and the file of CPU allocations belong to the host."""
        processes: list[object] = [*marked_processes(f"{self.state}/cases/", prefix=True)]
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                line = (entry / "cmdline").read_text().replace("\0", " ")
                # Provisioners show a title of their own: they are known by their state folder.
                ours = f"GUTSCORE_RS_STATE_DIR={self.state}".encode() in (entry / "environ").read_bytes().split(b"\0")
                zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                continue
            if (str(self.state) in line or ours) and not zombie:
                processes.append(f"{entry.name}: {line}")
        files = [path for path in self.state.rglob("*") if path.is_file()]
        return processes + [path for path in files if path.parent.name != "hosts" and "allocations" not in path.name]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    if list(run.state.glob("cases/*/access.json")):
        # A test that failed half way: its provisioner and server are its own, and carry no mark.
        down = [sys.executable, "-m", "gutscore_rs", "down", "run_test", "--purge"]
        subprocess.run(down, env=run.env, capture_output=True, check=False, timeout=60)
    kill_marked(f"{run.state}/cases/", prefix=True)


def test_a_run_ends_with_a_summary_and_leaves_nothing(run: Run) -> None:
    process = run.start("work", "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    summary = json.loads(out)
    assert summary["schema"] == 1
    assert summary["case"] == "run_test"
    assert summary["resource_sets"] == [{"id": n, "state": "released", "nworkers": 2, "peak_active": 2} for n in (0, 1)]
    assert summary["tasks"] == {"finished": 20, "failed": 0}
    assert summary["driver"] == {"sum": sum(n * n for n in range(20)), "active": 4, "path": str(run.output)}
    assert "begins work" in err
    assert "workers 4/4" in err
    assert run.left_behind() == []


def test_the_double_well_runs_on_real_workers_to_the_same_estimate_as_ever(run: Run) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "gutscore_rs", "run", str(EXAMPLE), "--output", str(run.output), "--json"],
        env=run.env,
        cwd=run.folder,
        text=True,
        capture_output=True,
        timeout=100,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    summary = json.loads(process.stdout)
    driver = summary["driver"]
    low, high = driver["confidence_interval"]
    # The grid reference at these parameters, see examples/double_well/reference.py.
    assert low < 5.155e-3 < high
    assert driver["failed_tasks"] == 0
    assert summary["tasks"]["finished"] == driver["tasks"]
    assert (run.output / "double_well.png").stat().st_size > 10_000
    assert run.left_behind() == []


def test_a_driver_that_raises_is_told_and_everything_is_released(run: Run) -> None:
    process = run.start("raise", "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert json.loads(out)["driver"] == {"error": "ValueError: a driver's own mistake"}
    assert "own_driver.py" in err
    assert run.left_behind() == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_releases_everything_even_what_tasks_started(run: Run, signum: int) -> None:
    process = run.start("sleep")
    wait_until((run.output / "asleep").exists, 40, what="the driver works")
    process.send_signal(signum)
    _, err = process.communicate(timeout=40)
    assert process.returncode == 130, err
    assert run.left_behind() == []
    assert not survivors(read_pids(run.output / "offspring", 2))


@pytest.mark.parametrize("delay", [0.25, 0.5, 0.75, 1.0, 1.5])
def test_an_interrupt_at_any_moment_leaves_nothing(run: Run, delay: float) -> None:
    process = run.start("sleep")
    time.sleep(delay)  # the moment itself is what is tested
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=40)
    # On a busy machine Python itself may still be starting: then it ends in its own way, with a traceback.
    assert process.returncode == 130 or (process.returncode != 0 and "KeyboardInterrupt" in err), err
    assert run.left_behind() == []


def test_two_interrupts_do_not_cut_the_release_short(run: Run) -> None:
    process = run.start("sleep")
    wait_until((run.output / "asleep").exists, 40, what="the driver works")
    for _ in range(3):
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)  # three impatient key strokes
    process.communicate(timeout=40)
    assert process.returncode == 130
    assert run.left_behind() == []


def test_a_run_whose_embedded_server_is_killed_says_so_ends_and_leaves_nothing(run: Run) -> None:
    process = run.start("wait")
    wait_until((run.output / "asleep").exists, 40, what="the driver waits for a job")
    record = json.loads((run.state / "cases/run_test/server/record.json").read_text())
    os.kill(record["identity"]["pid"], signal.SIGKILL)
    _, err = process.communicate(timeout=40)
    assert process.returncode == 75, err
    assert "does not answer" in err
    assert run.left_behind() == []
    assert not survivors(read_pids(run.output / "offspring", 2))


@pytest.mark.slow
def test_a_killed_run_is_cleaned_up_by_its_provisioner_after_a_minute(run: Run) -> None:
    process = run.start("sleep")
    wait_until((run.output / "asleep").exists, 40, what="the driver works")
    process.kill()
    process.communicate()
    # Workers of sets with daemonize = false end with their requester, at once.
    wait_until(
        lambda: not marked_processes(f"{run.state}/cases/run_test:", prefix=True),
        20,
        what="the workers ended with their requester",
    )
    wait_until(
        lambda: not [entry for entry in run.left_behind() if isinstance(entry, str)],
        90,
        interval=0.5,
        what="provisioner and server ended too",
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('function = "no_such_module:main"', "cannot be imported"),
        ('function = "own_driver:nothing"', "has no 'nothing'"),
        ('function = "own_driver:DRIVER"', "has no 'DRIVER'"),
        ('function = "own_driver"', "driver.function"),
    ],
)
def test_a_wrong_driver_is_refused_before_anything_starts(run: Run, change: str, message: str) -> None:
    case = run.folder / "case.toml"
    case.write_text(CASE.format(what="work", tests=".").replace('function = "own_driver:main"', change))
    process = subprocess.run(
        [sys.executable, "-m", "gutscore_rs", "run", str(case)],
        env=run.env,
        text=True,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert process.returncode in (1, 65)
    assert message in process.stderr
    assert "Traceback" not in process.stderr
    assert run.left_behind() == []


def test_more_workers_than_can_come_in_time_are_named_and_everything_is_released(run: Run) -> None:
    (run.folder / "case.toml").write_text(
        CASE.format(what="work", tests=".").replace("nworkers = 2", "nworkers = 2\ncpus_per_worker = 4096")
    )
    process = subprocess.run(
        [sys.executable, "-m", "gutscore_rs", "run", str(run.folder / "case.toml"), "--output", str(run.output)],
        env=run.env,
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 1
    assert "needs 8192 CPUs" in process.stderr
    assert run.left_behind() == []


def test_a_run_in_a_case_that_is_up_leaves_the_sets_of_others_alone(run: Run) -> None:
    process = run.start("work", "--json")
    process.communicate(timeout=60)
    case = str(run.folder / "case.toml")

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "gutscore_rs", *arguments],
            env=run.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert command("up", case).returncode == 0
    assert command("request", case, "--set", "0", "--wait").returncode == 0
    again = command("run", case, "--output", str(run.output))
    assert again.returncode == 75
    assert "Resource set 0 of case 'run_test' is active" in again.stderr
    assert json.loads(command("count", "run_test", "--json").stdout)["active"] == 2
    assert command("release", "run_test").returncode == 0
    assert command("run", case, "--output", str(run.output)).returncode == 0
    assert command("status", "run_test").returncode == 0
    assert command("down", "run_test", "--purge").returncode == 0
    assert run.left_behind() == []
