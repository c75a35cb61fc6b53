from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.descriptions import local_configs, slurm_configs

from gutscore_rs.errors import ConfigError, SerializationError
from gutscore_rs.resource_set import ResourceSetBaseclass, ResourceSetLocal, ResourceSetSlurm

ids = st.integers(0, 2**31 - 1)


def local_json(**changes):
    return json.dumps(json.loads(ResourceSetLocal(3, {"nworkers": 2}).serialize()) | changes)


def slurm_json(**changes):
    return json.dumps(json.loads(ResourceSetSlurm(3, {}).serialize()) | changes)


@given(
    ids,
    st.one_of(
        st.tuples(st.just(ResourceSetLocal), local_configs),
        st.tuples(st.just(ResourceSetSlurm), slurm_configs),
    ),
)
def test_reading_gives_back_what_was_written(wgroup_id, kind_and_config):
    kind, config = kind_and_config
    first = kind(wgroup_id, config)
    text = first.serialize()
    again = ResourceSetBaseclass.from_json(text)
    assert type(again) is kind
    assert again.serialize() == text
    assert again.description == first.description
    assert kind(wgroup_id, json_str=text).serialize() == text


@given(
    ids,
    st.none() | st.integers(1, 10**6),
    st.none() | st.just("case-1"),
    st.lists(st.integers(1, 10**6), unique=True, max_size=5),
    st.sampled_from([None, "4711", "123_4", "12+0"]),
)
def test_what_a_request_added_is_kept(wgroup_id, generation, case, pids, job_id):
    text = slurm_json(
        wgroup_id=wgroup_id,
        generation=generation,
        case=case,
        worker_pids=pids,
        job_id=job_id,
        job_script="#!/bin/bash\necho\t'ü'\n",
    )
    again = ResourceSetBaseclass.from_json(text)
    assert again.serialize() == text
    assert again.generation == generation
    assert again._slurm_job_id == job_id
    assert again._slurm_job_script == "#!/bin/bash\necho\t'ü'\n"


def test_the_text_has_the_documented_keys():
    assert list(json.loads(local_json())) == [
        "schema",
        "type",
        "wgroup_id",
        "config",
        "generation",
        "case",
        "worker_pids",
    ]
    assert set(json.loads(slurm_json())) - set(json.loads(local_json())) == {"job_id", "job_script"}


def test_a_subclass_reads_its_own_kind_only_and_says_who_reads_the_other():
    assert isinstance(ResourceSetLocal.from_json(local_json()), ResourceSetLocal)
    with pytest.raises(ConfigError, match=r"ResourceSetSlurm\.from_json"):
        ResourceSetLocal.from_json(slurm_json())
    assert isinstance(ResourceSetLocal(0, {}).from_json(local_json()), ResourceSetLocal)


@pytest.mark.parametrize(("runtime", "expected"), [("10", 600), (10, 10), ("1:30", 90)])
def test_the_predecessors_text_is_read(runtime, expected):
    text = json.dumps({"type": "local", "wgroup_id": 1, "nworkers": 2, "runtime": runtime, "daemonize": False})
    found = ResourceSetBaseclass.from_json(text)
    assert isinstance(found, ResourceSetLocal)
    assert (found.wgroup_id, found.get_nworkers(), found.worker_runtime(), found._daemonize) == (
        1,
        2,
        expected,
        False,
    )
    assert json.loads(found.serialize())["schema"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "null", "[]", "3", '"local"', "{}", "{", "nonsense", "\0", '{"type": "local"}', '{"type": []}',
        '{"type": "local", "wgroup_id": true}', '{"type": "local", "wgroup_id": 1, "nworkrs": 2}',
        '{"type": "local", "wgroup_id": 1, "runtime": "0"}', '{"type": "pbs", "wgroup_id": 1}',
        '{"type": "local", "type": "local", "wgroup_id": 1}', '{"type": "local", "wgroup_id": NaN}',
        '{"type": "local", "wgroup_id": 1, "runtime": Infinity}', '{"type": "local", "wgroup_id": 1, "runtime": 1e999}',
        '{"type": "local", "wgroup_id": 1, "host": "\\ud800"}', '{"type": "local", "wgroup_id": ' + "9" * 5000 + "}",
        "[" * 100_000, '{"a":' * 100_000, '{"type": "local", "wgroup_id": 1, "env": ' + '{"a":' * 400 + "1" + "}" * 401,
        " " * 1_000_001,
    ],
)  # fmt: skip
def test_what_is_no_resource_set_is_refused_in_a_short_message(text):
    with pytest.raises(SerializationError) as caught:
        ResourceSetBaseclass.from_json(text)
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"schema": 2}, "schema 2"), ({"schema": "1"}, "schema '1'"), ({"schema": True}, "schema True"), ({"schema": None}, "schema None"),
        ({"type": "pbs"}, "'pbs'"), ({"type": "slurm"}, "job_id"), ({"wgroup_id": -1}, "wgroup_id = -1"),
        ({"wgroup_id": "1"}, "wgroup_id = '1'"), ({"wgroup_id": 1.0}, "wgroup_id"), ({"generation": 0}, "generation"),
        ({"generation": True}, "generation"), ({"case": "a/b"}, "case = 'a/b'"), ({"case": 3}, "case"),
        ({"worker_pids": [0]}, "worker_pids"), ({"worker_pids": [1, 1]}, "worker_pids"), ({"worker_pids": [True]}, "worker_pids"),
        ({"worker_pids": {}}, "worker_pids"), ({"worker_pids": [[1]]}, "worker_pids"), ({"config": []}, "config"), ({"config": {}}, "schema"),
        ({"worker_pid": []}, "did you mean 'worker_pids'"), ({"job_id": "1"}, "job_id: unknown key"),
    ],
)  # fmt: skip
def test_each_wrong_value_is_named(changes, names):
    with pytest.raises(SerializationError) as caught:
        ResourceSetBaseclass.from_json(local_json(**changes))
    assert names in str(caught.value)


@pytest.mark.parametrize("key", ["wgroup_id", "config", "generation", "case", "worker_pids", "job_id", "job_script"])
def test_a_missing_key_is_named(key):
    data = json.loads(slurm_json())
    del data[key]
    with pytest.raises(SerializationError, match=f"{key}: is missing"):
        ResourceSetBaseclass.from_json(json.dumps(data))


@pytest.mark.parametrize(
    "changes",
    [
        {"job_id": 4711},
        {"job_id": "4711;x"},
        {"job_id": "-1"},
        {"job_script": None},
        {"job_script": "a\0b"},
        {"job_script": "\ud800"},
    ],
)
def test_wrong_slurm_values_are_refused(changes):
    with pytest.raises(SerializationError, match=next(iter(changes))):
        ResourceSetBaseclass.from_json(slurm_json(**changes))


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"backend": "slurm"},
        {"backend": "pbs"},
        {"nworkers": 0},
        {"runtime": "abc"},
        {"nworkrs": 1},
        {"path": [3]},
        {"env": {"A B": "c"}},
    ],
)
def test_a_wrong_config_inside_is_refused(change):
    config = json.loads(local_json())["config"] | change
    with pytest.raises(SerializationError):
        ResourceSetBaseclass.from_json(local_json(config=config))


@given(st.data())
def test_a_text_that_is_cut_is_refused(data):
    text = local_json()
    end = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(SerializationError):
        ResourceSetBaseclass.from_json(text[:end])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.text() | st.sampled_from(["schema", "type", "wgroup_id", "config"]), inner)
        ),
    )
)
def test_any_other_json_is_refused_by_one_kind_of_error(value):
    with pytest.raises(SerializationError):
        ResourceSetBaseclass.from_json(json.dumps(value))


def test_bytes_are_no_text():
    with pytest.raises(SerializationError, match="bytes"):
        ResourceSetBaseclass.from_json(local_json().encode())  # type: ignore[arg-type]


def test_a_set_too_large_to_be_read_again_is_not_written():
    found = ResourceSetLocal(0, {})
    found._worker_pids = list(range(10**6, 10**6 + 150_000))
    with pytest.raises(SerializationError, match="characters"):
        found.serialize()
