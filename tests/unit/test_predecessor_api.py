"""The names and signatures of the predecessor's ``gutscore.scheduler.resource_set``, as its API page has them."""

from __future__ import annotations

import inspect

import pytest

from gutscore_rs import ResourceSetBaseclass, ResourceSetLocal, ResourceSetSlurm

CLASSES = [ResourceSetBaseclass, ResourceSetLocal, ResourceSetSlurm]
METHODS = {
    "request": (["config"], ["dict[Any, Any]"], "None"),
    "serialize": ([], [], "str"),
    "from_json": (["resource_set_json"], ["str"], "Self"),
    "release": ([], [], "None"),
    "get_nworkers": ([], [], "int"),
    "get_nworkers_active": ([], [], "int"),
    "workers_initiated": ([], [], "bool"),
    "append_worker_process": (["process"], ["multiprocessing.Process"], "None"),
    "worker_runtime": ([], [], "int"),
}


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("method", METHODS)
def test_each_method_has_its_name_arguments_and_types(kind, method):
    names, types, returned = METHODS[method]
    signature = inspect.signature(getattr(kind(0, {}) if kind is not ResourceSetBaseclass else kind, method))
    parameters = [p for p in signature.parameters.values() if p.name != "self"]
    assert [p.name for p in parameters] == names
    assert [p.annotation for p in parameters] == types
    assert signature.return_annotation == returned


@pytest.mark.parametrize("kind", CLASSES)
def test_each_class_is_made_from_the_same_arguments(kind):
    parameters = inspect.signature(kind).parameters
    assert [(p.name, p.annotation, p.default) for p in parameters.values()] == [
        ("wgroup_id", "int", inspect.Parameter.empty),
        ("res_config", "dict[Any, Any] | None", None),
        ("json_str", "str | None", None),
    ]


def test_both_classes_derive_from_the_base_class_which_is_abstract():
    assert issubclass(ResourceSetLocal, ResourceSetBaseclass)
    assert issubclass(ResourceSetSlurm, ResourceSetBaseclass)
    assert inspect.isabstract(ResourceSetBaseclass)
    assert ResourceSetBaseclass.__abstractmethods__ == {"_init_rs"}


@pytest.mark.parametrize("kind", [ResourceSetLocal, ResourceSetSlurm])
def test_from_json_works_on_classes_and_as_before_on_instances(kind):
    text = kind(3, {"nworkers": 2}).serialize()
    for found in (kind.from_json(text), kind(0, {}).from_json(text), ResourceSetBaseclass.from_json(text)):
        assert type(found) is kind
        assert found.get_nworkers() == 2


def test_the_documented_attributes_exist():
    local, slurm = ResourceSetLocal(7, {}), ResourceSetSlurm(7, {})
    for found in (local, slurm):
        assert (found._wgroup_id, found._nworkers, found._runtime, found._workers, found._worker_pids) == (
            7,
            1,
            100,
            [],
            [],
        )
    assert local._daemonize is False
    assert slurm._slurm_job_id is None
    assert slurm._slurm_job_script.startswith("#!")
