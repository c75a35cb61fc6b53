"""Each word of Slurm has its verdict, and a word that nobody knows is never an end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gutscore_rs.slurm import JobView, Verdict
from gutscore_rs.slurm.states import VERDICTS

# slurm_protocol_defs.c, job_state_string(): the base states, then the flags that are shown instead (facts 15, 16).
BASE = (
    "PENDING RUNNING SUSPENDED COMPLETED CANCELLED FAILED TIMEOUT NODE_FAIL PREEMPTED BOOT_FAIL DEADLINE OUT_OF_MEMORY"
).split()
FLAGS = (
    "COMPLETING STAGE_OUT CONFIGURING EXPEDITING RESIZING REQUEUED REQUEUE_FED REQUEUE_HOLD SPECIAL_EXIT STOPPED "
    "REVOKED RESV_DEL_HOLD SIGNALING"
).split()


def view(state: str = "PENDING", reason: str = "") -> JobView:
    return JobView("1", "1", "", "t", state, reason)


def test_every_state_of_slurm_has_a_verdict_and_no_other_word_has():
    assert set(VERDICTS) == {*BASE, *FLAGS}


@pytest.mark.parametrize(
    ("state", "verdict"),
    [
        pytest.param("CONFIGURING", "waiting", id="submitit counts it as done"),
        pytest.param("SUSPENDED", "up", id="submitit counts it as done too"),
        pytest.param("STOPPED", "up", id="stopped processes are there"),
        pytest.param("REQUEUED", "waiting", id="HQ#654: requeued, taken for finished, counted over its limit"),
        pytest.param("REQUEUE_HOLD", "waiting", id="the same id comes back when it is released"),
        pytest.param("SPECIAL_EXIT", "waiting", id="requeued and held"),
        pytest.param("COMPLETING", "draining", id="processes may live"),
        pytest.param("STAGE_OUT", "draining", id="burst buffers"),
        pytest.param("PREEMPTED", "gone", id="HQ#937 gave up on it"),
        pytest.param("NODE_FAIL", "gone", id="HQ#937, as this"),
        pytest.param("OUT_OF_MEMORY", "gone", id="executorlib#1037 waited for ever"),
        pytest.param("DEADLINE", "gone", id="Parsl#2255 lacks it"),
        pytest.param("CANCELLED by 1000", "gone", id="sacct's words (fact 17)"),
        pytest.param("CANCELLED+", "gone", id="cut by a column"),
    ],
)
def test_a_state_has_its_verdict(state, verdict):
    assert view(state).verdict == verdict
    assert view(state).is_gone == (verdict == "gone")


@given(st.text().filter(lambda text: not set(text.replace("+", " ").split()) & set(VERDICTS)))
def test_an_unknown_word_is_kept(state):
    """Parsl#2255: no block in an unknown state was counted, so it submitted more and more."""
    assert view(state).verdict is Verdict.UNKNOWN
    assert not view(state).is_gone


@pytest.mark.parametrize(
    "reason",
    [
        "PartitionTimeLimit", "PartitionConfig", "BadConstraints", "AccountNotAllowed", "InvalidAccount", "InvalidQOS",
        "QOSNotAllowed", "DependencyNeverSatisfied", "QOSMaxWallDurationPerJobLimit", "AssocMaxWallDurationPerJobLimit",
        "QOSMaxCpuPerJobLimit", "QOSMaxCpuMinutesPerJobLimit", "QOSMaxNodePerJobLimit", "QOSMaxMemoryPerJob",
        "QOSMaxCpuPerNode", "AssocMaxNodePerJobLimit", "QOSMinCpuNotSatisfied", "QOSMinGRES",
    ],
)  # fmt: skip
def test_what_nothing_but_an_edit_can_end_is_hopeless(reason):
    """HQ#248: jobs that could never start, ten a minute, and nobody was told."""
    assert view(reason=reason).hopeless
    assert view(reason=f"({reason})").hopeless
    assert not view("RUNNING", reason).hopeless
    assert not view("CANCELLED", reason).hopeless


@pytest.mark.parametrize(
    "reason",
    [
        "", "Resources", "Priority", "None", "Dependency", "JobHeldUser", "JobHeldAdmin", "BeginTime", "Licenses",
        "JobArrayTaskLimit", "PartitionNodeLimit", "PartitionDown", "PartitionInactive", "NodeDown", "Reservation",
        "ReqNodeNotAvail, UnavailableNodes:n3", "ReqNodeNotAvail(Unavailable:n3)", "QOSMaxJobsPerUserLimit",
        "QOSMaxCpuPerUserLimit", "QOSMaxNodePerUserLimit", "QOSMaxSubmitJobPerUserLimit", "QOSGrpCpuLimit",
        "QOSGrpCPUMinutesLimit", "AssocGrpNodeLimit", "AssocMaxJobsLimit", "AssocGrpCPURunMinutesLimit", "QOSJobLimit",
        "job requeued in held state", "Prolog", "Cleaning", "WaitingForScheduling", "AssociationResourceLimit",
        "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions", "SomethingNew",
    ],
)  # fmt: skip
def test_what_may_end_by_itself_is_waited_for(reason):
    assert not view(reason=reason).hopeless
