"""What a cluster can hold, and what can never run there."""

from __future__ import annotations

import pytest

from gutscore_rs.errors import SlurmUnavailableError
from gutscore_rs.slurm import ClusterLimits, Partition, SlurmClient, check_request
from gutscore_rs.slurm.limits import parse_limits

CONFIG = """Configuration data as of 2026-11-24T08:10:25
AccountingStorageHost   = localhost
ClusterName             = alpha
MaxArraySize            = 501
SLURM_CONF              = /etc/slurm/slurm.conf
SLURM_VERSION           = 23.11.0-0rc1
"""
# As `scontrol show partition --oneliner` of 22.05.8 prints it, shortened.
PARTITIONS = (
    "PartitionName=debug AllowGroups=ALL Default=YES DefaultTime=NONE MaxNodes=UNLIMITED MaxTime=UNLIMITED MinNodes=0 "
    "Nodes=n[1-4] State=UP TotalCPUs=16 TotalNodes=4 JobDefaults=(null)\n"
    "PartitionName=short Default=NO MaxNodes=1 MaxTime=00:10:00 Nodes=n[1-2] State=DOWN TotalNodes=2\n"
    "PartitionName=long Default=NO MaxNodes=8 MaxTime=7-00:00:00 Nodes=n[1-8] State=UP TotalNodes=8\n"
)
LIMITS = parse_limits(CONFIG, PARTITIONS, "debug|4\nshort|16+\nlong|4\nlong|64\n")


def test_a_cluster_is_read():
    assert LIMITS == ClusterLimits(
        "alpha",
        (23, 11, 0),
        501,
        (
            Partition("debug", is_default=True, max_time=None, max_nodes=None, nodes=4, cpus_per_node=4, state="UP"),
            Partition("short", is_default=False, max_time=600, max_nodes=1, nodes=2, cpus_per_node=16, state="DOWN"),
            Partition("long", is_default=False, max_time=604_800, max_nodes=8, nodes=8, cpus_per_node=64, state="UP"),
        ),
    )


def test_what_is_missing_or_new_is_no_limit():
    limits = parse_limits("SLURM_VERSION = 26.11\n", "PartitionName=p MaxTime=SOON\nNo partitions\n", "p|\n|4\n???\n")
    assert limits.version == (26, 11)
    assert limits.max_array_size == 1001
    assert limits.partitions == (Partition("p", False, None, None, 0, 0, ""),)


def test_what_is_no_configuration_is_no_cluster_without_limits(fake_slurm):
    fake_slurm.program("scontrol", out="Hello\n")
    fake_slurm.program("sinfo")
    with pytest.raises(SlurmUnavailableError, match="no configuration"):
        SlurmClient().limits()


def test_the_kinds_of_nodes_are_asked_for_apart(fake_slurm):
    """Without --exact sinfo says "16+", with its default format "debug*" (fact 35)."""
    fake_slurm.program("scontrol", out=CONFIG)
    fake_slurm.program("sinfo", out="debug|4\n")
    SlurmClient().limits()
    (call,) = fake_slurm.calls("sinfo")
    assert {"--exact", "--all", "--noheader", "--format=%R|%c"} == set(call)


@pytest.mark.parametrize(
    "spec",
    [
        {"runtime": 600, "partition": "short", "nodes": 1},
        {"runtime": 10**8, "partition": "debug", "nodes": 4},
        {"runtime": 10**8},
        {"runtime": 3600, "partition": "short,long", "nodes": 2},  # one that fits is enough
        {"runtime": 3600, "partition": "short", "nodes": 2, "qos": "vip"},  # a qos may lift MaxTime and MaxNodes
    ],
)
def test_what_may_run_has_nothing_against_it(spec):
    assert check_request(spec, LIMITS) == []


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        # Slurm takes it and lets it wait for ever (fact 13); it rounds 601 s up to 11 minutes (fact 12).
        ({"runtime": 601, "partition": "short"}, ["runtime is 00:11:00", "00:10:00", "'short'", "MaxTime"]),
        ({"runtime": 604_801, "partition": "long"}, ["7-00:01:00", "7-00:00:00"]),
        ({"runtime": 60, "partition": "short", "nodes": 2}, ["nodes is 2", "at most 1", "'short'"]),
        ({"runtime": 60, "nodes": 5}, ["nodes is 5", "at most 4", "'debug'"]),
        ({"runtime": 60, "partition": "short", "nodes": 3, "qos": "vip"}, ["nodes is 3", "at most 2"]),
        ({"runtime": 60, "partition": "shrot"}, ["'shrot'", "'alpha'", "could be 'short'"]),
        ({"runtime": 60, "partition": "zzz"}, ["'zzz'", "'debug'", "'long'", "'short'"]),
        ({"runtime": 60, "partition": "debug,nope"}, ["'nope'"]),
    ],
)  # fmt: skip
def test_what_can_never_run_is_told_with_what_to_change(spec, words):
    (sentence,) = check_request(spec, LIMITS)
    assert [word for word in words if word not in sentence] == []
    assert sentence.endswith(".")


def test_all_that_is_wrong_is_told_at_once():
    assert len(check_request({"runtime": 700, "partition": "short", "nodes": 9}, LIMITS)) == 2
    assert len(check_request({"runtime": 700, "partition": "short,long", "nodes": 9}, LIMITS)) == 3


def test_a_cluster_without_known_partitions_refuses_nothing():
    assert check_request({"runtime": 60, "partition": "x"}, ClusterLimits("a", (22,), 1001, ())) == []
