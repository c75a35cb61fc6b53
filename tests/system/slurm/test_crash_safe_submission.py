"""A provisioner is killed around sbatch, Redis and the controller are away in between: one job runs workers, no more.

sbatch is wrapped where a death must come at a certain step of it; what it does then is the real sbatch's work.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support.slurm_cases import SlurmCase
from support.slurm_cluster import Job, SlurmCluster, wrapped
from support.waiting import holds_for, wait_until

from gutscore_rs.slurm.tokens import job_prefix
from gutscore_rs.store.records import State


def jobs_of(case: SlurmCase, *options: str) -> list[Job]:
    """The case's jobs; with ``--states=all`` also those that were."""
    prefix = job_prefix(case.name, case.access.key_id)
    return [job for job in case.slurm.jobs(*options) if job.name.startswith(prefix)]


def submitted(case: SlurmCase) -> int:
    return len(jobs_of(case, "--states=all"))


def operations_of(provisioner: int) -> list[int]:
    children = Path(f"/proc/{provisioner}/task/{provisioner}/children").read_text().split()
    return [int(pid) for pid in children]


@pytest.fixture
def with_sbatch(slurm_case: SlurmCase, tmp_path: Path) -> Callable[[str], Path]:
    """Start the provisioner anew with a wrapper around sbatch; gives the folder of its marks."""

    def start(body: str) -> Path:
        folder = wrapped(tmp_path, "sbatch", body)
        slurm_case.restart(folder)
        return folder

    return start


def kill_at(case: SlurmCase, mark: Path) -> None:
    wait_until(mark.exists, 15, what=f"sbatch is at {mark.name}")
    case.kill_provisioners(signal.SIGKILL)


def sees_it_through(case: SlurmCase) -> None:
    """The set becomes active, in one job, which is written down; nothing of ours waits beside it."""
    case.wait_active(0, 2, 30)
    assert case.state_of() is State.ACTIVE
    [job] = jobs_of(case)
    assert job.job == case.record().slurm_job
    assert len(case.store.workers.alive([0])) == 2
    wait_until(
        lambda: [one.job_id for one in case.store.submissions.open()] == [job.job], 10, what="its submission has a job"
    )


def test_killed_before_sbatch_began(
    slurm_case: SlurmCase, slurm: SlurmCluster, with_sbatch: Callable[[str], Path]
) -> None:
    marks = with_sbatch("touch $MARKS/begun; read -t 20 <> <(:); exec $REAL")
    slurm_case.request(wait=False)
    kill_at(slurm_case, marks / "begun")
    slurm_case.restart()
    sees_it_through(slurm_case)
    assert submitted(slurm_case) == 1


def test_killed_after_sbatch_had_its_answer_and_before_it_was_written_down(
    slurm_case: SlurmCase, slurm: SlurmCluster, with_sbatch: Callable[[str], Path]
) -> None:
    marks = with_sbatch('$REAL "$@" > $MARKS/reply; touch $MARKS/done; read -t 20 <> <(:); cat $MARKS/reply')
    slurm_case.request(wait=False)
    kill_at(slurm_case, marks / "done")
    job = (marks / "reply").read_text().strip()
    slurm_case.restart()
    sees_it_through(slurm_case)
    assert slurm_case.record().slurm_job == job
    assert submitted(slurm_case) == 1


def test_an_error_after_the_job_was_taken_is_no_refusal(
    slurm_case: SlurmCase, slurm: SlurmCluster, with_sbatch: Callable[[str], Path]
) -> None:
    # nextflow#970, rwth-i6/sisyphus#281: "Socket timed out" although the job is there.
    with_sbatch(
        '$REAL "$@" > /dev/null; '
        'echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1'
    )
    slurm_case.request(wait=False)
    sees_it_through(slurm_case)
    assert submitted(slurm_case) == 1


def test_the_controller_takes_a_submission_long_after_its_sbatch_was_killed(
    slurm_case: SlurmCase, slurm: SlurmCluster
) -> None:
    slurm.pause("slurmctld")
    slurm_case.request(wait=False)
    wait_until(lambda: slurm_case.state_of() is State.SUBMITTING, 10, what="sbatch is under way")
    wait_until(lambda: _sbatch_is_sent(slurm_case), 10, what="sbatch waits for its answer")
    slurm_case.kill_provisioners()
    first = slurm_case.record().token
    # Looked for in vain for `lookup_time`; then submitted again, under another name, and that waits as well.
    slurm_case.provisioners.clear()
    slurm.resume("slurmctld")
    slurm_case.start_provisioner()
    sees_it_through(slurm_case)
    assert slurm_case.record().token.startswith(first), "the first submission was there, and should be adopted"


def _sbatch_is_sent(case: SlurmCase) -> bool:
    for operation in operations_of(case.provisioners[-1].pid):
        for child in operations_of(operation):
            name = Path(f"/proc/{child}/comm").read_text().strip()
            sockets = [os.readlink(link) for link in Path(f"/proc/{child}/fd").iterdir()]
            if name == "sbatch" and any("socket" in target for target in sockets):
                return True
    return False


def test_a_job_that_appears_after_its_set_was_submitted_again_runs_no_worker(
    slurm_case: SlurmCase, slurm: SlurmCluster, with_sbatch: Callable[[str], Path]
) -> None:
    # Its sbatch "hangs", its job comes when the lookup time is over and a second submission is made.
    marks = with_sbatch(
        'if [ ! -e $MARKS/first ]; then touch $MARKS/first; cat > $MARKS/script; echo "$@" > $MARKS/options; '
        'echo "sbatch: error: Unable to contact slurm controller (connect failure)" >&2; exit 1; fi; exec $REAL "$@"'
    )
    slurm_case.request(wait=False)
    sees_it_through(slurm_case)
    workers = slurm_case.pids()
    # A provisioner would cancel it while it waits.
    slurm_case.kill_provisioners()
    options = (marks / "options").read_text().split()
    late = slurm.run("sbatch", *options, str(marks / "script")).strip()
    wait_until(lambda: slurm.states().get(late) == "COMPLETED", 30, what="the late job ends by itself")
    holds_for(lambda: slurm_case.pids() == workers, 1.0, what="the workers are those of the second submission")
    log = slurm_case.folder.logs / "slurm" / f"slurm-{late}.err"
    assert "newer launch took its place" in log.read_text()


def test_redis_is_away_while_sbatch_runs(
    slurm_case: SlurmCase, slurm: SlurmCluster, with_sbatch: Callable[[str], Path]
) -> None:
    marks = with_sbatch(
        '$REAL "$@" > $MARKS/reply; touch $MARKS/done; '
        "until [ -e $MARKS/go ]; do read -t 0.05 <> <(:); done; cat $MARKS/reply"
    )
    slurm_case.request(wait=False)
    wait_until((marks / "done").exists, 15, what="sbatch has its answer")
    slurm_case.server.kill()
    (marks / "go").touch()
    holds_for(lambda: True, 1.0, what="nobody can write it down")
    slurm_case.server.start()
    sees_it_through(slurm_case)
    assert submitted(slurm_case) == 1


def test_of_two_jobs_with_one_token_one_runs_workers(
    slurm_case: SlurmCase, slurm: SlurmCluster, tmp_path: Path
) -> None:
    slurm_case.request()
    job = slurm_case.job_of()
    script = tmp_path / "script"
    slurm.run("scontrol", "write", "batch_script", job, str(script))
    # --dependency=singleton would make it wait for the first one: the last line of defence is tried without.
    second = slurm.run("sbatch", "--parsable", "--dependency=", str(script)).strip()
    wait_until(lambda: slurm.states().get(second) == "COMPLETED", 30, what="the second job ends by itself")
    assert slurm_case.record().slurm_job == job
    assert len(slurm_case.store.workers.alive([0])) == 2


def test_a_job_that_no_set_waits_for_is_cancelled(slurm_case: SlurmCase, slurm: SlurmCluster, tmp_path: Path) -> None:
    slurm_case.request()
    script = tmp_path / "script"
    slurm.run("scontrol", "write", "batch_script", slurm_case.job_of(), str(script))
    slurm_case.operations.release(0, timeout=30)
    slurm_case.request(1)
    late = slurm.run("sbatch", "--parsable", "--hold", str(script)).strip()
    wait_until(lambda: slurm.states().get(late) == "CANCELLED", 20, what="the late job is cancelled")
    assert slurm_case.state_of(1) is State.ACTIVE


def test_jobs_of_one_token_run_one_after_the_other(slurm_case: SlurmCase, slurm: SlurmCluster, tmp_path: Path) -> None:
    slurm_case.request()
    script = tmp_path / "script"
    slurm.run("scontrol", "write", "batch_script", slurm_case.job_of(), str(script))
    second = slurm.run("sbatch", "--parsable", str(script)).strip()
    [waiting] = [job for job in slurm.jobs() if job.job == second]
    assert (waiting.state, waiting.reason) == ("PENDING", "Dependency")
