"""The shape of the code: who imports whom, who reads the environment, what a worker host loads, what is left undone."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gutscore_rs import entrypoints

ROOT = Path(__file__).parent.parent
LIBRARY, WORKERS = ROOT / "gutscore_rs", ROOT / "workers" / "gutscore_rs_workers"

# Who may import what, beside the standard library and ourselves; a folder stands for all in it.
ALLOWED = {
    "redis": {"store", "lazy_job.py"},
    "hiredis": {"store"},
    "rq": {"tasks.py", "lazy_job.py", "operations", "manager.py"},
    "msgpack": {"store", "operations"},
    "cloudpickle": {"calls.py"},
    "pydantic": {"config"},
    "pydantic_core": {"config"},
    "click": {"cli"},
    "rich": {"cli", "manager.py"},
    "platformdirs": {"paths.py"},
    "psutil": {"identity.py", "processes.py"},
}
ALLOWED_IN_WORKERS = {
    "redis": {"peek.py", "provisioner.py", "rq_bridge.py", "rq_worker.py", "worker.py"},
    "rq": {"rq_bridge.py", "rq_worker.py"},
    "msgpack": {"shared_memory.py"},
}
# An import inside a function needs a reason.
LATE = {
    ("gutscore_rs/manager.py", "rich"): "only a terminal that shows progress pays for it",
    ("gutscore_rs/__init__.py", "importlib"): "PEP 562: `import gutscore_rs` must not load pydantic (rulings 33)",
}
NOT_ON_WORKERS = {"pydantic", "rich", "textual", "starlette", "click", "matplotlib", "scipy", "numpy"}


def sources(*folders: Path) -> list[Path]:
    return [file for folder in folders for file in sorted(folder.rglob("*.py"))]


def imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        yield node.module or ""


def imports_of(file: Path) -> set[str]:
    """Top-level packages that a module imports, anywhere in it."""
    return {name.split(".")[0] for node in ast.walk(ast.parse(file.read_text())) for name in imported(node)}


def foreign(file: Path) -> set[str]:
    return imports_of(file) - set(sys.stdlib_module_names) - {"gutscore_rs", "gutscore_rs_workers"}


def short(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", sources(LIBRARY), ids=short)
def test_the_library_imports_no_process_and_others_only_where_they_belong(file: Path) -> None:
    assert "gutscore_rs_workers" not in imports_of(file)
    part = file.relative_to(LIBRARY).parts[0]
    assert {package for package in foreign(file) if part not in ALLOWED.get(package, set())} == set()


@pytest.mark.parametrize("file", sources(WORKERS), ids=short)
def test_the_processes_import_redis_and_rq_only_where_they_must(file: Path) -> None:
    assert {package for package in foreign(file) if file.name not in ALLOWED_IN_WORKERS.get(package, set())} == set()


def test_every_package_that_is_imported_is_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[\[<>=]", line)[0].lower() for line in project["dependencies"]}
    used = {package for file in sources(LIBRARY, WORKERS) for package in foreign(file)} - {"pydantic_core"}
    assert used <= declared


@pytest.mark.parametrize("file", [file for file in sources(LIBRARY) if file.name != "settings.py"], ids=short)
def test_only_the_settings_read_the_environment(file: Path) -> None:
    touched = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    assert not touched & {"os.environ", "os.environb", "os.getenv", "os.putenv"}
    assert not re.search(r"from os import .*(environ|getenv)", file.read_text())


@pytest.mark.parametrize("file", sources(LIBRARY, WORKERS), ids=short)
def test_imports_stand_at_the_top(file: Path) -> None:
    late = {
        name.split(".")[0]
        for function in ast.walk(ast.parse(file.read_text()))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        for name in imported(node)
    }
    assert {name for name in late if (short(file), name) not in LATE} == set()


@pytest.mark.parametrize("file", [*sources(LIBRARY, WORKERS), *sorted(LIBRARY.rglob("*.lua"))], ids=short)
def test_nothing_is_left_to_do(file: Path) -> None:
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", file.read_text())


@pytest.mark.parametrize("file", sources(LIBRARY, WORKERS), ids=short)
def test_every_module_says_what_it_is_for_and_defers_its_annotations(file: Path) -> None:
    tree = ast.parse(file.read_text())
    assert ast.get_docstring(tree)
    if len(tree.body) > 1:
        assert "annotations" in {
            alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom) and node.module == "__future__"
            for alias in node.names
        }


def test_workers_is_only_a_folder() -> None:
    entries = {entry.name for entry in (ROOT / "workers").iterdir()} - {"__pycache__"}
    assert entries == {"gutscore_rs_workers", "README.md"}


def test_the_names_of_processes_are_modules_with_a_main() -> None:
    for name in (entrypoints.WORKERGROUP, entrypoints.PROVISIONER):
        assert callable(importlib.import_module(name).main)
    # The scripts of the project that can be imported in this tree.
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(scripts) >= {"gutscore-rs", "run_workergroup"}
    for target in scripts.values():
        module, function = target.split(":")
        assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("module", [entrypoints.WORKERGROUP, entrypoints.PROVISIONER])
def test_a_worker_host_loads_only_what_it_runs(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(name.split('.')[0] for name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert set(done.stdout.split()) & NOT_ON_WORKERS == set()


@pytest.mark.parametrize("module", ["identity", "processes", "paths", "access", "store", "operations", "embedded"])
def test_what_workers_use_of_the_library_loads_no_configuration(module: str) -> None:
    code = f"import sys, gutscore_rs.{module}; print(*sorted(name.split('.')[0] for name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert set(done.stdout.split()) & NOT_ON_WORKERS == set()


def test_the_import_contracts_hold() -> None:
    beside = Path(sys.executable).parent / "lint-imports"
    program = str(beside) if beside.exists() else shutil.which("lint-imports")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("import-linter is not installed")
        pytest.skip("import-linter is not installed")
    done = subprocess.run(
        [program, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ) | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'workers'}"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
