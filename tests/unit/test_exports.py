from __future__ import annotations

import inspect
import os
import subprocess
import sys

import pytest

import gutscore_rs
from gutscore_rs import errors, resource_set


def loaded_by(statement):
    code = f"import sys; {statement}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    return set(run.stdout.split())


def test_every_error_of_the_tree_is_exported():
    tree = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.GutscoreError)
    }
    assert tree <= set(gutscore_rs.__all__)
    for name in tree:
        assert getattr(gutscore_rs, name) is getattr(errors, name)


def test_every_exported_name_is_there_or_has_its_module_named():
    for name in gutscore_rs.__all__:
        if name != "ResourceManager":
            assert getattr(gutscore_rs, name) is not None
    assert sorted(gutscore_rs.__all__) == sorted(set(gutscore_rs.__all__))
    assert set(gutscore_rs.__all__) <= set(dir(gutscore_rs))


def test_the_three_classes_are_the_same_from_both_places():
    for name in ("ResourceSetBaseclass", "ResourceSetLocal", "ResourceSetSlurm"):
        assert getattr(gutscore_rs, name) is getattr(resource_set, name)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="ResourceSetLokal"):
        _ = gutscore_rs.ResourceSetLokal
    assert not hasattr(gutscore_rs, "import_modul")


HEAVY = {"pydantic", "redis", "rq", "rich", "click", "msgpack", "psutil"}


@pytest.mark.parametrize(
    "statement",
    [
        "import gutscore_rs",
        "import gutscore_rs.durations",
        "from gutscore_rs import ReleaseError",
        "import gutscore_rs.slurm",
    ],
)
def test_what_workers_import_loads_nothing_heavy(statement):
    assert not loaded_by(statement) & HEAVY


def test_a_description_loads_nothing_of_the_command_line():
    assert loaded_by("from gutscore_rs import ResourceSetLocal") & HEAVY <= {"pydantic", "redis", "msgpack", "rq"}
