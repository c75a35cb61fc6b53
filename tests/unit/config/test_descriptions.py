from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support.descriptions import local_configs, slurm_configs

from gutscore_rs.config import Description, LocalDescription, SlurmDescription, resource_description
from gutscore_rs.errors import ConfigError, DurationError, GutscoreError, SerializationError


def refusal(config, backend="local"):
    with pytest.raises(ConfigError) as caught:
        resource_description(config, backend, 3)
    return str(caught.value)


@given(st.tuples(st.just("local"), local_configs) | st.tuples(st.just("slurm"), slurm_configs))
def test_a_description_survives_msgpack_without_loss(backend_and_config):
    backend, config = backend_and_config
    found = resource_description(config, backend)
    spec = msgpack.unpackb(msgpack.packb(found.to_spec()), strict_map_key=True)
    assert spec == found.to_spec()
    assert spec["schema"] == 1
    again = Description.from_spec(spec)
    assert again == found
    assert type(again) is type(found)


def test_defaults_are_one_worker_for_a_hundred_seconds():
    found = resource_description({}, "local")
    assert (found.backend, found.nworkers, found.runtime, found.daemonize) == ("local", 1, 100, False)
    assert (found.drain_timeout, found.max_restarts, found.oversubscribe) == (5.0, 5, False)
    assert "host" not in found.to_spec()


def test_a_description_does_not_change():
    found = resource_description({}, "local")
    with pytest.raises(ValidationError):
        found.nworkers = 2


@pytest.mark.parametrize(
    "value", [0, -3, "two", "2", 2.5, 2.0, True, None, 10**9, pytest.param(10**5000, id="huge"), [2]]
)
def test_a_number_of_workers_that_cannot_be_is_refused_with_the_bounds(value):
    assert "resource set 3: nworkers = " in (message := refusal({"nworkers": value}))
    assert "must be a whole number from 1 to 100000" in message


def test_a_wrong_type_is_named():
    assert "not text" in refusal({"nworkers": "two"})
    assert "not a fraction" in refusal({"nworkers": 2.5})
    assert "not true or false" in refusal({"nworkers": True})


@pytest.mark.parametrize("value", [0, -1, "abc", "1:75", "UNLIMITED", "", None, True, float("nan")])
def test_a_runtime_that_is_none_is_refused(value):
    assert "runtime" in refusal({"runtime": value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("daemonize", 1), ("daemonize", "yes"), ("oversubscribe", None), ("cpus_per_worker", 0), ("cpus_per_worker", 1.5),
        ("gpus_per_worker", -1), ("drain_timeout", -1), ("drain_timeout", float("nan")), ("drain_timeout", float("inf")),
        ("drain_timeout", "5"), ("max_restarts", -1), ("host", "a b"), ("host", "a/b"), ("host", "a\nb"), ("host", ""),
        ("host", "x" * 254), ("host", "ä"), ("env", {"A B": "c"}), ("env", {"1A": "c"}), ("env", {"A": "x\ny"}),
        ("env", {"A": "x\0"}), ("env", {"A": None}), ("env", {"A": True}), ("env", {"A": 1.5}), ("env", {3: "x"}), ("env", []),
        ("env", {"GUTSCORE_RS_HOST": "x"}), ("env", {"SLURM_JOB_ID": "1"}), ("env", {"A": "x" * 5000}),
        ("env", {f"A{n}": "" for n in range(65)}), ("path", "folder"), ("path", ["~/lib"]),
        ("path", [3]), ("path", ["a\0"]), ("path", [""]),
        ("path", ["x"] * 65), ("host", "\ud800"),
    ],
)  # fmt: skip
def test_bad_values_are_refused_by_key(key, value):
    message = refusal({key: value})
    assert message.startswith(f"resource set 3: {key} = ")
    assert len(message) < 400
    assert message.isprintable()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("nodes", 0), ("nodes", "1-4"), ("nodes", 2), ("partition", "a b"), ("partition", "a\n#SBATCH"), ("partition", ""),
        ("account", "$(rm)"), ("qos", 3), ("constraint", "a;b"), ("mem", "4 GB"), ("mem", -1), ("mem", True), ("gpus_per_node", "many"),
        ("gpus-per-node", -1), ("gpus-per-node", True), ("array_throttle", 0), ("cluster", "a,b"), ("pre_cmd_list", "module load x"),
        ("pre_cmd_list", ["a\nb"]), ("pre_cmd_list", ["a\0"]), ("pre_cmd_list", ["echo 'open"]), ("pre_cmd_list", ["a \\"]),
        ("post_cmd_list", [3]), ("post_cmd_list", ["x"] * 65), ("extra_directives", ["--nice"]),
    ],
)  # fmt: skip
def test_bad_values_for_slurm_are_refused_by_key(key, value):
    message = refusal({key: value}, "slurm")
    assert key in message
    assert message.isprintable()


@pytest.mark.parametrize(
    ("directives", "says"),
    [
        ({"job-name": "x"}, "needs for itself"), ({"-J": "x"}, "'job-name'"), ({"--output": "x"}, "needs for itself"),
        ({"time": "10"}, "'runtime'"), ({"-p": "debug"}, "'partition'"), ({"a": "1-3"}, "'array_throttle'"),
        ({"nice": False}, "'nice' must have"), ({"nice": None}, "'nice' must have"), ({"nice": [1]}, "'nice' must have"),
        ({"nice": float("nan")}, "'nice' must have"), ({"begin": "a\nb"}, "one line"), ({"begin": "a\\b"}, "backslash"),
        ({"x y": 1}, "no option of sbatch"), ({"Z": 1}, "no option of sbatch"), ({3: 1}, "must be text"), ({"": 1}, "must be text"),
        ({"--nice": 1, "nice": 2}, "twice"), ({"x": "n1", "exclude": "n2"}, "twice"), ({f"o{n}-x": 1 for n in range(65)}, "at most 64"),
    ],
)  # fmt: skip
def test_directives_that_cannot_be_are_refused(directives, says):
    message = refusal({"extra_directives": directives}, "slurm")
    assert says in message
    assert "extra_directives" in message


def test_directives_keep_their_values_under_long_names():
    given_ = {
        "--nice": 0,
        "-x": "node1",
        "exclusive": "",
        "hold": True,
        "core_spec": 2,
        "begin": "now+1hour",
        "tres-bind": 1.5,
    }
    found = resource_description({"extra_directives": given_}, "slurm")
    assert found.extra_directives == {
        "nice": "0",
        "exclude": "node1",
        "exclusive": True,
        "hold": True,
        "core-spec": "2",
        "begin": "now+1hour",
        "tres-bind": "1.5",
    }


def test_the_predecessors_spellings_are_understood():
    found = resource_description({"time": "1-12", "gpus-per-node": 2, "pre-cmd-list": [], "nodes": 1}, "slurm")
    assert isinstance(found, SlurmDescription)
    assert (found.runtime, found.gpus_per_node) == (36 * 3600, "2")


def test_two_spellings_of_one_key_are_refused():
    assert "is the same as 'runtime'" in refusal({"runtime": 3, "time": 4}, "slurm")
    assert "is the same as" in refusal({"gpus_per_node": 3, "gpus-per-node": 4}, "slurm")


def test_none_means_not_given_where_there_is_no_default():
    assert resource_description({"partition": None, "cpus_per_worker": None}, "slurm") == resource_description(
        {}, "slurm"
    )


def test_a_node_without_a_worker_and_gpus_that_do_not_suffice_are_refused():
    assert "each node needs a worker" in refusal({"nodes": 3, "nworkers": 2}, "slurm")
    assert "the 4 that gpus_per_worker" in refusal(
        {"nworkers": 8, "nodes": 4, "gpus_per_worker": 2, "gpus_per_node": "a100:3"}, "slurm"
    )
    resource_description({"nworkers": 8, "nodes": 4, "gpus_per_worker": 2, "gpus_per_node": 4}, "slurm")


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("nworkrs", "nworkers"),
        ("Runtime", "runtime"),
        ("gpu_per_worker", "gpus_per_worker"),
        ("demonize", "daemonize"),
    ],
)
def test_an_unknown_key_comes_with_the_nearest_name(key, near):
    assert f"{key}: unknown key; did you mean '{near}'?" in refusal({key: 1})


@pytest.mark.parametrize("key", [3, None, "", "a\nb", "x" * 10_000, "\ud800", "backend", "schema", ("a",)])
def test_any_strange_key_is_refused_in_a_short_printable_message(key):
    message = refusal({key: 1})
    assert "unknown key" in message
    assert len(message) < 500
    assert message.isprintable()


@pytest.mark.parametrize("backend", ["pbs", "", None, 3, "Local", []])
def test_an_unknown_backend_is_refused(backend):
    assert "must be 'local' or 'slurm'" in refusal({}, backend)


@pytest.mark.parametrize("config", [None, [], "x", 3])
def test_a_description_that_is_no_table_is_refused(config):
    assert "must be a table" in refusal(config)


def test_all_that_is_wrong_stands_in_one_message():
    message = refusal({"nworkers": 0, "runtime": "abc", "nodez": 1, "daemonize": 3})
    assert "4 problems" in message
    assert all(f"\n  - {key}" in message for key in ("nworkers", "runtime", "nodez", "daemonize"))


def test_a_description_of_more_than_a_tenth_of_a_megabyte_is_refused():
    assert "at most 100000" in refusal({"env": {f"A{n}": "x" * 4000 for n in range(40)}})


def test_what_a_request_adds_to_a_spec_is_no_part_of_the_description():
    found = resource_description({}, "local")
    assert Description.from_spec(found.to_spec() | {"queues": ["a:tasks"], "cwd": "/tmp"}) == found


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"schema": None},
        {"schema": True},
        {"backend": "pbs"},
        {"nworkers": 0},
        {"future_key": 1},
        {"path": [b"x"]},
    ],
)
def test_a_spec_of_another_version_or_of_garbage_is_refused(change):
    with pytest.raises(SerializationError):
        Description.from_spec(resource_description({}, "local").to_spec() | change)


def test_a_kind_reads_only_its_own_specs():
    spec = resource_description({}, "local").to_spec()
    assert isinstance(LocalDescription.from_spec(spec), LocalDescription)
    with pytest.raises(SerializationError, match="not SlurmDescription"):
        SlurmDescription.from_spec(spec)


def test_a_wrong_description_is_a_runtime_error_as_in_the_predecessor():
    assert issubclass(ConfigError, RuntimeError)
    assert issubclass(DurationError, GutscoreError)
