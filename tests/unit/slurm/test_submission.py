"""What sbatch says, and what that proves; each case is one that a public issue tells of."""

from __future__ import annotations

import pytest

from gutscore_rs.errors import ConfigError, SlurmMissingError, SlurmRefusedError, SlurmUnavailableError
from gutscore_rs.slurm import Busy, Refused, SlurmClient, Submitted, Unknown
from gutscore_rs.slurm.commands import Finished
from gutscore_rs.slurm.submission import judge

CLIENT = SlurmClient(submit_timeout=20, timeout=20)
SCRIPT = "#!/bin/sh\necho hello\n"


@pytest.mark.parametrize(
    ("reply", "job_id", "cluster"),
    [
        pytest.param("123\n", "123", "", id="plain"),
        pytest.param("123;alpha\n", "123", "alpha", id="pysqa: int('123;c') is a ValueError"),
        pytest.param("Welcome to Foo!\n\n123\n", "123", "", id="banner before (fact 1b)"),
        pytest.param("123;a.b-c\nYou have 3 messages.\n", "123", "a.b-c", id="banner after"),
        pytest.param("Quota 2026\n12\n123\n", "123", "", id="a banner with a number of its own comes first"),
        pytest.param("  123  \r\n", "123", "", id="spaces"),
    ],
)
def test_the_id_is_found_whatever_stands_around_it(fake_slurm, reply, job_id, cluster):
    fake_slurm.program("sbatch", out=reply)
    assert CLIENT.submit(SCRIPT, []) == Submitted(job_id, cluster)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param("", id="sbatch --quiet says nothing (fact 1)"),
        pytest.param("Submitted batch job 123 on cluster foo\n", id="psij: the last token is the cluster's name"),
        pytest.param("123 456\n", id="two numbers"),
        pytest.param(b"\xff\xfe\x00garbage\n", id="no text at all"),
        pytest.param("\u0661\u0662\u0663\n", id="digits that are not ASCII"),
    ],
)
def test_a_reply_without_an_id_proves_nothing(fake_slurm, reply):
    fake_slurm.program("sbatch", out=reply)
    assert isinstance(CLIENT.submit(SCRIPT, []), Unknown)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("Socket timed out on send/recv operation", id="nextflow#970"),
        pytest.param("Unable to contact slurm controller (connect failure)", id="rulings 16"),
        pytest.param("Unable to contact slurm controller", id="rwth-i6/sisyphus#281"),
        pytest.param("Zero Bytes were transmitted or received", id="executorlib#721"),
        pytest.param("Transport endpoint is not connected", id="toil#2381"),
        pytest.param("Connection timed out", id="snakemake#1789"),
        pytest.param("Message receive failure", id="sdsc-summer-institute-2019#55"),
        pytest.param("Unexpected message received", id="mixed versions"),
        pytest.param("Slurm backup controller in standby mode", id="failover"),
        pytest.param("Controller is in standby mode, try a different controller", id="failover, 22.05's words"),
        pytest.param("Invalid authentication credential", id="munged is down"),
        pytest.param("Protocol authentication error", id="clocks differ"),
    ],
)
def test_an_error_on_the_way_is_no_proof_that_there_is_no_job(fake_slurm, words):
    said = f"sbatch: error: Batch job submission failed: {words}\n"
    fake_slurm.program("sbatch", err=said, code=1)
    outcome = CLIENT.submit(SCRIPT, [])
    assert isinstance(outcome, Unknown)
    assert words in outcome.words


@pytest.mark.parametrize(
    ("err", "code"),
    [
        pytest.param("sbatch: error: s_p_parse_file: cannot stat file x\nsbatch: fatal: Unable to process "
                     "configuration file\n", 1, id="no slurm.conf"),
        pytest.param("sbatch: fatal: Could not establish a configuration source\n", 1, id="no DNS record"),
        pytest.param("sbatch: error: Problem talking to database\nsbatch: error: 'x' can't be reached now, or it is an "
                     "invalid entry for --cluster.\n", 1, id="slurmdbd is down: Parsl#3675"),
        pytest.param("/opt/site/sbatch: line 3: 4711 Killed   sbatch.real\n", 137, id="a site's wrapper was killed"),
        pytest.param("", 1, id="silence"),
    ],
)  # fmt: skip
def test_what_is_no_judgement_of_slurm_proves_nothing(fake_slurm, err, code):
    fake_slurm.program("sbatch", err=err, code=code)
    assert isinstance(CLIENT.submit(SCRIPT, []), Unknown)


def test_an_sbatch_ended_by_a_signal_proves_nothing(fake_slurm):
    fake_slurm.program("sbatch", out="123\n", err="sbatch: error: Invalid partition\n", then="kill -KILL $$")
    assert isinstance(CLIENT.submit(SCRIPT, []), Unknown)


def test_an_id_with_a_failure_proves_nothing():
    done = Finished(1, "123\n", "post-hook failed\n", "sbatch", 1)
    assert isinstance(judge(done), Unknown)


@pytest.mark.parametrize(
    "err",
    [
        pytest.param("sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job "
                     "violates accounting/QOS policy (job submit limit, user's size and/or time limits)\n",
                     id="jobflow-remote#135"),
        pytest.param("sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates "
                     "accounting/QOS policy (job submit limit, user's size and/or time limits)\n",
                     id="webknossos-libs#537"),
        pytest.param("sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit "
                     "limit, user's size and/or time limits)\n", id="without the limit's name"),
        pytest.param("sbatch: error: AssocGrpSubmitJobsLimit\nsbatch: error: Batch job submission failed: Unspecified "
                     "error\n", id="a limit's name alone"),
        pytest.param("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n" * 15
                     + "sbatch: error: Batch job submission failed: Resource temporarily unavailable\n",
                     id="MaxJobCount reached (fact 5); Parsl#1241"),
        pytest.param("sbatch: error: Batch job submission failed: Required partition not available (inactive or "
                     "drain)\n", id="the partition is closed for maintenance"),
    ],
)  # fmt: skip
def test_a_limit_on_submissions_means_wait(fake_slurm, err):
    fake_slurm.program("sbatch", err=err, code=1)
    outcome = CLIENT.submit(SCRIPT, [])
    assert isinstance(outcome, Busy)
    assert err.strip()[:40] in outcome.words


@pytest.mark.parametrize(
    "err",
    [
        (
            "sbatch: error: invalid partition specified: nope\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified\n"
        ),
        "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified\n",
        "sbatch: error: Batch job submission failed: Invalid qos specification\n",
        "sbatch: error: Batch job submission failed: Requested node configuration is not available\n",
        # The list of tasks is longer than MaxArraySize: no waiting helps (submitit#1624, rslurm#73).
        "sbatch: error: Batch job submission failed: Invalid job array specification\n",
        "sbatch: error: Invalid --time specification\n",
        "sbatch: unrecognized option '--bad'\nTry \"sbatch --help\" for more information\n",
        # A try that timed out, after which the controller did answer.
        (
            "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
            "sbatch: error: Batch job submission failed: Invalid feature specification\n"
        ),
    ],
)
def test_what_slurm_refuses_is_refused_in_its_words(fake_slurm, err):
    fake_slurm.program("sbatch", err=err, code=1)
    outcome = CLIENT.submit(SCRIPT, [])
    assert outcome == Refused(err.strip())


def test_a_missing_program_says_what_to_load(fake_slurm):
    with pytest.raises(SlurmMissingError, match="module load slurm"):
        CLIENT.submit(SCRIPT, [])


def test_the_script_comes_by_stdin_and_the_options_by_the_command_line(fake_slurm):
    """Options on the command line beat SBATCH_* variables, those beat #SBATCH lines (fact 8)."""
    fake_slurm.program("sbatch", out="1\n")
    CLIENT.submit(SCRIPT + "# \u00e4\n", ["--time=5", "--comment=a b"])
    assert fake_slurm.calls("sbatch") == [["--parsable", "--time=5", "--comment=a b"]]
    assert fake_slurm.stdin("sbatch") == SCRIPT + "# \u00e4\n"


def test_another_cluster_stands_in_every_command(fake_slurm):
    """Without -M jobs of other clusters are invisible and more and more are asked for: Parsl#3675."""
    client = SlurmClient(cluster="beta")
    for name in ("sbatch", "squeue", "scancel", "sacct", "sinfo"):
        fake_slurm.program(name, out="7;beta\n" if name == "sbatch" else "")
    fake_slurm.program("scontrol", out="SLURM_VERSION = 22.05.8\n")
    assert client.submit(SCRIPT, []) == Submitted("7", "beta")
    client.test_only(SCRIPT, [])
    client.queue()
    client.named("t")
    client.end_time("7")
    client.history(["t", "7"], 0)
    client.cancel(["7"])
    client.cancel_named("t")
    client.limits()
    for name, number in {"sbatch": 2, "squeue": 3, "scancel": 2, "sacct": 2, "sinfo": 1, "scontrol": 2}.items():
        calls = fake_slurm.calls(name)
        assert len(calls) == number
        assert {call[0] for call in calls} == {"--clusters=beta"}


def test_a_preview_has_slurms_own_words(fake_slurm):
    fake_slurm.program("sbatch", err="sbatch: Job 2 to start at 2026-11-22T08:20:12 using 1 processors\n")
    assert CLIENT.test_only(SCRIPT, ["-n1"]) == "sbatch: Job 2 to start at 2026-11-22T08:20:12 using 1 processors"
    assert fake_slurm.calls("sbatch") == [["--test-only", "-n1"]]


@pytest.mark.parametrize(
    ("err", "error", "words"),
    [
        (
            "allocation failure: Requested node configuration is not available\n",
            SlurmRefusedError,
            "node configuration",
        ),
        (
            "allocation failure: Unable to contact slurm controller (connect failure)\n",
            SlurmUnavailableError,
            "contact",
        ),
        ("sbatch: error: AssocMaxSubmitJobLimit\n", SlurmRefusedError, "for now"),
    ],
)
def test_a_preview_that_fails_tells_no_from_no_answer(fake_slurm, err, error, words):
    fake_slurm.program("sbatch", err=err, code=1)
    with pytest.raises(error, match=words):
        CLIENT.test_only(SCRIPT, [])


@pytest.mark.parametrize("token", ["", "a b", "x" * 129, "a,b", "a\nb", "tok\u00e9n", "*"])
def test_a_token_that_could_mean_other_jobs_is_refused(fake_slurm, token):
    """scancel with an empty name would mean every job of the user."""
    for call in (CLIENT.cancel_named, CLIENT.named):
        with pytest.raises(ConfigError, match="token"):
            call(token)
