from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gutscore_rs.config import CaseConfig, LocalDescription, SlurmDescription, from_mapping, load
from gutscore_rs.errors import ConfigError

FULL = """
[case]
name = "double_well"
[redis]
url = "rediss://ada@db.example.org:6380/2"
password_file = "secret/redis"
[tasks]
queues = ["urgent", "tasks"]
[resource]
nwgroups = 3
backend = "slurm"
[resource.config]
nworkers = 4
runtime = "1:00:00"
gpus-per-node = 2
path = ["lib", "/opt/lib"]
[resource.config.extra_directives]
nice = 10
[resource.groups.1]
time = 60
gpus_per_node = 1
[manager]
release_timeout = 5
[driver]
function = "double_well.tams:main"
path = ".."
[driver.options]
seed = 1
when = 2026-01-01
"""


@pytest.fixture
def write(tmp_path):
    def to_file(text, name="case.toml"):
        file = tmp_path / "project" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return to_file


def refusal(config):
    with pytest.raises(ConfigError) as caught:
        from_mapping(config, source="case.toml")
    return str(caught.value)


def test_a_whole_file_is_read(write, tmp_path):
    found = load(write(FULL))
    assert found.name == "double_well"
    assert found.redis.url == "rediss://ada@db.example.org:6380/2"
    assert found.redis.password_file == tmp_path / "project/secret/redis"
    assert found.queue_names == ("double_well:urgent", "double_well:tasks")
    assert all(isinstance(group, SlurmDescription) for group in found.groups)
    assert [group.runtime for group in found.groups] == [3600, 60, 3600]
    assert [group.gpus_per_node for group in found.groups] == ["2", "1", "2"]
    assert found.groups[0].extra_directives == {"nice": "10"}
    assert found.groups[0].path == (str(tmp_path / "project/lib"), "/opt/lib", str(tmp_path))
    assert (found.manager.release_timeout, found.manager.request_timeout) == (5, 600)
    assert found.driver.function == "double_well.tams:main"
    assert found.driver.path == tmp_path
    assert found.driver.options["seed"] == 1
    assert found.source == str(tmp_path / "project/case.toml")
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.name = "other"


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"resource": {}},
        {"case": None},
        {"resource": {"nwgroups": 1, "backend": "local", "config": {}, "groups": {}}},
    ],
)
def test_what_is_missing_gets_its_default(config):
    found = from_mapping(config)
    assert (found.name, found.queue_names, found.driver, found.source) == (
        "gutscore",
        ("gutscore:tasks",),
        None,
        "config",
    )
    assert found.groups == (LocalDescription(),)
    assert (found.redis.url, found.redis.bind, found.manager.release_timeout) == (None, None, 60)


def test_the_predecessors_shortest_config_works():
    assert len(from_mapping({"resource": {"nwgroups": 2}}).groups) == 2


def test_the_callers_mapping_is_not_changed():
    config = {"resource": {"config": {"path": ["a"]}, "groups": {0: {"nworkers": 2}}}}
    from_mapping(config)
    assert config == {"resource": {"config": {"path": ["a"]}, "groups": {0: {"nworkers": 2}}}}


def test_without_a_path_the_driver_is_looked_for_beside_the_file_or_beside_its_package(write):
    plain = load(write('[driver]\nfunction = "project.tams:main"'))
    assert plain.driver.path == write("").parent
    write("", "__init__.py")
    packaged = load(write('[driver]\nfunction = "project.tams:main"'))
    assert packaged.driver.path == write("").parent.parent
    assert packaged.groups[0].path == (str(packaged.driver.path),)


def test_all_problems_stand_in_one_message_with_file_key_value_and_remedy():
    message = refusal({
        "cse": {}, "case": {"name": "a/b"}, "redis": {"bnd": 1}, "tasks": {"queues": ["ops"]}, "manager": 4,
        "resource": {"nwgroups": 2, "config": {"nworkrs": 3, "nworkers": 10**9, "runtime": "1:75"}, "groups": {"0": {"nworkers": True}, "7": {}}},
        "driver": {"path": 3},
    })  # fmt: skip
    assert message.startswith("case.toml: 12 problems:\n")
    for part in (
        "cse: unknown key; did you mean 'case'?", "case.name = 'a/b': must be 1 to 64 letters", "redis.bnd: unknown key; did you mean 'bind'?",
        "tasks.queues", "manager = 4: must be a table; write [manager]", "resource.config.nworkrs: unknown key; did you mean 'nworkers'?",
        "resource.config.nworkers = 1000000000: must be a whole number from 1 to 100000", "resource.config.runtime = '1:75'",
        "resource.groups.0.nworkers = True", "resource.groups.7: there is no such set", "driver.function: is missing", "driver.path = 3",
    ):  # fmt: skip
        assert f"\n  - {part}" in message


def test_a_problem_that_all_groups_share_is_said_once():
    assert (
        refusal({"resource": {"nwgroups": 50, "config": {"nworkers": 0}, "groups": {1: {"runtime": 3}}}}).count(
            "nworkers"
        )
        == 1
    )


def test_an_override_may_put_right_what_does_not_fit_together():
    found = from_mapping({"resource": {"backend": "slurm", "config": {"nodes": 4}, "groups": {"0": {"nworkers": 8}}}})
    assert (found.groups[0].nodes, found.groups[0].nworkers) == (4, 8)
    assert "resource.groups.0: nodes = 4" in refusal(
        {"resource": {"backend": "slurm", "config": {"nodes": 4}, "groups": {"0": {}}}}
    )


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a/b", "a\nb", "a\0", "-a", "_a", "x" * 65, "x" * 10_000, "ä", 3, True, {}, "a:b", "{a}"],
)
def test_a_case_name_that_keys_cannot_hold_is_refused(name):
    message = refusal({"case": {"name": name}})
    assert message.startswith("case.toml: case.name = ")
    assert len(message) < 250
    assert message.isprintable()


@pytest.mark.parametrize(
    "queues",
    [[], ["ops"], ["a", "a"], ["a b"], ["a:b"], "tasks", [3], ["x" * 65], [f"q{n}" for n in range(17)], None],
)
def test_queues_that_cannot_be_are_refused(queues):
    assert "tasks.queues" in refusal({"tasks": {"queues": queues}})


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://ada@h:6379/0",
        "redis://[::1]:6379",
        "rediss://h:1/15",
        "unix:///run/redis.sock",
        "unix:///run/redis.sock?db=2",
    ],
)
def test_urls_of_a_redis_are_taken(url):
    assert from_mapping({"redis": {"url": url}}).redis.url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h:6379",
        "http://h",
        "redis://",
        "redis:///0",
        "redis://h:99999",
        "redis://h:0",
        "redis://h:x",
        "redis://h/a",
        "unix://run/x",
        "redis://[::1",
        "redis://h\n",
        3,
    ],
)
def test_what_is_no_url_of_a_redis_is_refused(url):
    assert "redis.url = " in refusal({"redis": {"url": url}})


@pytest.mark.parametrize(
    "url",
    [
        "redis://ada:pass-word@h",
        "redis://:pass-word@h",
        "redis://ada:pass-word@" + "h" * 2000,
        "redis://ada:pass/-word@h",
        "unix://ada:pass-word@/x",
    ],
)
def test_a_password_is_neither_taken_nor_repeated(url):
    assert "word" not in refusal({"redis": {"url": url}}).replace("password", "")


@pytest.mark.parametrize("bind", ["0.0.0.0", "10.0.0.1:6379", "[::1]:6379", "node-1.cluster"])
def test_addresses_to_bind_are_taken(bind):
    assert from_mapping({"redis": {"bind": bind}}).redis.bind == bind


@pytest.mark.parametrize(
    "redis",
    [
        {"bind": "a b"},
        {"bind": "h:0"},
        {"bind": "h:70000"},
        {"bind": "::1"},
        {"url": "redis://h", "bind": "h"},
        {"password_file": "x"},
        {"username": "ada"},
    ],
)
def test_servers_that_cannot_be_are_refused(redis):
    assert "redis" in refusal({"redis": redis})


@pytest.mark.parametrize(
    "resource",
    [
        {"nwgroups": 0},
        {"nwgroups": "2"},
        {"nwgroups": 10**9},
        {"nwgroups": True},
        {"backend": "pbs"},
        {"backend": ["slurm"]},
        {"config": 3},
        {"groups": []},
        {"groups": {"0": 3}},
        {"groups": {"-1": {}}},
        {"groups": {"00": {}}},
        {"groups": {"0": {}, 0: {}}},
        {"groups": {"a\nb": {}}},
    ],
)
def test_resources_that_cannot_be_are_refused(resource):
    message = refusal({"resource": resource})
    assert message.startswith("case.toml: resource.")
    assert message.isprintable()


@pytest.mark.parametrize(
    "function",
    ["main", "a:b:c", "a.b", ":main", "a:", "a b:c", "a..b:c", "1a:b", "a:b\n", "a" * 300 + ":b", 3, None],
)
def test_a_driver_that_cannot_be_imported_is_refused(function):
    assert "driver.function = " in refusal({"driver": {"function": function}})


@pytest.mark.parametrize(
    "manager",
    [
        {"release_timeout": 0},
        {"request_timeout": -1},
        {"release_timeout": "60"},
        {"release_timeout": float("nan")},
        {"relase_timeout": 1},
    ],
)
def test_waiting_times_that_cannot_be_are_refused(manager):
    assert "manager." in refusal({"manager": manager})


def test_a_home_folder_that_is_not_there_is_refused():
    password_file = {"url": "redis://h", "password_file": "~no-such-user/x"}
    assert "redis.password_file" in refusal({"redis": password_file})


@pytest.mark.parametrize("config", [None, [], "x", 3])
def test_a_configuration_that_is_no_mapping_is_refused(config):
    assert "must be a table" in refusal(config)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.dictionaries(
            st.text() | st.sampled_from(["case", "resource", "config", "groups", "driver", "redis", "nworkers", "0"]),
            inner,
            max_size=4,
        ),
        max_leaves=12,
    )
)
def test_anything_gives_a_configuration_or_a_config_error(config):
    try:
        assert isinstance(from_mapping(config), CaseConfig)
    except ConfigError:
        pass


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[case\nname = 1", "line 1, column 6"), ("[case]\nname = ", "end of document"), ("a = 1\na = 2\nb = 3", "line 2, column 6"), ("x = \0", "TOML"),
        (b"\xff\xfe[case]", "UTF-8"), ("a = " + "[" * 100_000, ""), (b"#" * 1_000_001, "longer than"), ("[tasks]\nqueue = 3", "tasks.queue: unknown key"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_configuration_is_refused_by_name(write, text, says):
    file = write(text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert says in str(caught.value)


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="is no file"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="is no file"):
        load(tmp_path / "pipe")
    for name in ("a\0b", "x" * 10_000, str(tmp_path / "missing.toml" / "below")):
        with pytest.raises(ConfigError) as caught:
            load(Path(name))
        assert len(str(caught.value)) < 400


def test_a_file_that_may_not_be_read_is_refused(write, monkeypatch):
    file = write("")

    def denied(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ConfigError, match=r"case\.toml.*cannot be read \(Permission denied\)"):
        load(file)


def test_a_relative_name_of_the_file_gives_absolute_paths(write, monkeypatch, tmp_path):
    write('[driver]\nfunction = "a:b"')
    monkeypatch.chdir(tmp_path)
    assert load(Path("project/case.toml")).driver.path == tmp_path / "project"
