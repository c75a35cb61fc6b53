from __future__ import annotations

import pytest
from support.registries import FakeRegistry

from gutscore_rs.config import from_mapping
from gutscore_rs.errors import (
    ConfigError,
    ReleaseError,
    RequestError,
    StateConflictError,
    StoreUnavailableError,
)
from gutscore_rs.resource_set import ResourceSetBaseclass, ResourceSetLocal, ResourceSetSlurm, registry

CONFIG = {"case": {"name": "demo"}, "manager": {"release_timeout": 7, "request_timeout": 30}}


@pytest.fixture
def running(monkeypatch):
    """A case that ``registry_for`` finds; the configurations that it was looked for by are in ``asked``."""
    found = FakeRegistry("demo")
    found.asked = []
    monkeypatch.setattr(registry, "registry_for", lambda config: (found.asked.append(config), found)[1])
    return found


def test_an_empty_description_takes_the_defaults():
    found = ResourceSetLocal(0, {})
    assert (found.get_nworkers(), found.worker_runtime(), found._daemonize) == (1, 100, False)
    assert found.get_nworkers_active() == 0
    assert not found.workers_initiated()


@pytest.mark.parametrize("kind", [ResourceSetLocal, ResourceSetSlurm])
def test_neither_or_both_of_config_and_json_are_a_runtime_error(kind):
    with pytest.raises(RuntimeError, match="neither"):
        kind(0)
    with pytest.raises(RuntimeError, match="both"):
        kind(0, {}, kind(0, {}).serialize())


@pytest.mark.parametrize("wgroup_id", [-1, "1", 1.0, None, True, 2**31])
def test_an_id_that_is_no_small_whole_number_is_refused(wgroup_id):
    with pytest.raises(ConfigError, match="wgroup_id"):
        ResourceSetLocal(wgroup_id, {})


def test_an_unknown_key_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match=r"resource set 4: nworkrs: unknown key; did you mean 'nworkers'"):
        ResourceSetLocal(4, {"nworkrs": 2})
    with pytest.raises(ConfigError, match="partition"):
        ResourceSetLocal(4, {"partition": "debug"})


@pytest.mark.parametrize("config", [[], "nworkers", 3])
def test_a_description_that_is_no_table_is_refused(config):
    with pytest.raises(ConfigError):
        ResourceSetLocal(0, config)


def test_json_of_another_set_is_refused():
    text = ResourceSetLocal(1, {}).serialize()
    with pytest.raises(ConfigError, match="resource set 1, not of local resource set 2"):
        ResourceSetLocal(2, json_str=text)
    with pytest.raises(ConfigError, match="not of slurm"):
        ResourceSetSlurm(1, json_str=text)


def test_the_base_class_itself_describes_nothing():
    with pytest.raises(TypeError):
        ResourceSetBaseclass(0, {})


def test_the_callers_dict_is_neither_changed_nor_kept():
    config = {"env": {"A": "1"}, "path": ["x"]}
    found = ResourceSetLocal(0, config)
    before = found.serialize()
    config["env"]["A"] = "2"
    config["path"].append("y")
    assert found.serialize() == before
    found.description.to_spec()["env"]["A"] = "3"
    assert found.serialize() == before


def test_a_set_is_made_from_a_description_of_its_kind():
    for backend, kind in (("local", ResourceSetLocal), ("slurm", ResourceSetSlurm)):
        (description,) = from_mapping({"resource": {"backend": backend, "config": {"runtime": "5"}}}).groups
        found = ResourceSetBaseclass.from_description(2, description)
        assert type(found) is kind
        assert found.description == description


def test_a_request_without_a_running_case_says_how_to_start_one():
    with pytest.raises(RequestError, match=r"'demo'.*gutscore-rs up"):
        ResourceSetLocal(0, {}).request(CONFIG)
    with pytest.raises(RequestError, match="gutscore-rs up"):
        ResourceSetLocal(0, {}).request({})


def test_a_request_reaches_the_running_case_and_is_remembered(running):
    found = ResourceSetLocal(2, {"nworkers": 3, "runtime": "10"})
    found.request(CONFIG)
    assert running.asked == [CONFIG]
    ((wgroup_id, spec, timeout),) = running.requests
    assert (wgroup_id, spec["backend"], spec["nworkers"], spec["runtime"], timeout) == (
        2,
        "local",
        3,
        600,
        30,
    )
    assert found.generation == 1
    assert '"case": "demo"' in found.serialize()


def test_an_attached_set_uses_what_it_is_attached_to(running):
    own = FakeRegistry("other")
    found = ResourceSetLocal(0, {})
    found.attach(own)
    found.request({})
    assert running.asked == []
    assert len(own.requests) == 1
    assert '"case": "other"' in found.serialize()


def test_a_wrong_configuration_is_refused_before_anything_is_asked(running):
    with pytest.raises(ConfigError, match="did you mean 'case'"):
        ResourceSetLocal(0, {}).request({"cse": {"name": "demo"}})
    assert (running.asked, running.requests) == ([], [])


@pytest.mark.parametrize("fault", [StateConflictError("in use"), StoreUnavailableError("down"), OSError("no")])
def test_a_request_that_fails_leaves_the_set_unrequested(running, fault):
    running.fault = fault
    found = ResourceSetLocal(0, {})
    with pytest.raises(RuntimeError):
        found.request(CONFIG)
    assert found.generation is None
    running.fault = None
    found.release()
    assert running.releases == []


def test_the_count_comes_from_redis_once_connected():
    found = ResourceSetLocal(0, {"nworkers": 2})
    case = FakeRegistry(active=1)
    found.attach(case)
    assert found.get_nworkers_active() == 1
    assert not found.workers_initiated()
    case.active = 2
    assert found.workers_initiated()
    case.fault = StoreUnavailableError("down")
    with pytest.raises(StoreUnavailableError):
        found.get_nworkers_active()


def test_releasing_what_was_never_requested_does_nothing(running):
    ResourceSetLocal(0, {}).release()
    ResourceSetSlurm(0, {}).release()
    assert (running.asked, running.releases) == ([], [])


def test_a_release_waits_as_long_as_configured_and_is_done_once(running):
    found = ResourceSetLocal(0, {})
    found.request(CONFIG)
    found.release()
    found.release()
    assert running.releases == [(0, 7)]
    assert found.generation is None


def test_any_node_can_release_from_the_json_alone(running):
    found = ResourceSetLocal(5, {})
    found.request(CONFIG)
    running.asked.clear()
    ResourceSetBaseclass.from_json(found.serialize()).release()
    assert running.asked == [{"case": {"name": "demo"}}]
    assert running.releases == [(5, 60)]


@pytest.mark.parametrize(
    ("fault", "transient"),
    [
        (ReleaseError("pid 7 is left"), False),
        (StoreUnavailableError("down"), True),
        (OSError("no"), True),
        (StateConflictError("x"), False),
    ],
)
def test_a_release_that_fails_is_a_release_error_and_can_be_tried_again(running, fault, transient):
    found = ResourceSetLocal(0, {})
    found.request(CONFIG)
    running.fault = fault
    with pytest.raises(ReleaseError, match=str(fault)) as caught:
        found.release()
    assert caught.value.transient is transient
    running.fault = None
    found.release()
    assert running.releases == [(0, 7)]


def test_a_slurm_set_has_its_script_before_it_is_requested():
    found = ResourceSetSlurm(1, {"partition": "debug", "runtime": "1:00:00", "pre_cmd_list": ["module load x"]})
    assert found._slurm_job_id is None
    assert found._slurm_job_script == found.job_script()
    assert "#SBATCH --partition=debug" in found._slurm_job_script
    assert "#SBATCH --time=01:00:00" in found._slurm_job_script
    assert "#SBATCH --job-name=tok-1" in found.job_script(token="tok-1", command=["/bin/x"], log_dir="/logs")


def test_a_slurm_set_that_no_script_can_hold_is_refused_at_once():
    with pytest.raises(ConfigError, match="pre_cmd_list"):
        ResourceSetSlurm(1, {"pre_cmd_list": ["echo 'open"]})


def test_a_set_says_what_it_is():
    assert (
        repr(ResourceSetLocal(1, {"nworkers": 2, "runtime": 5}))
        == "ResourceSetLocal(wgroup_id=1, nworkers=2, runtime=5 s)"
    )
