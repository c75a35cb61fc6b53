"""docs/cli.md has the fields of the JSON that needs a running case: ``run``, ``up`` and ``logs``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gutscore_rs.processes import kill_marked

JSON_PART = (Path(__file__).parents[2] / "docs" / "cli.md").read_text().split("\n## JSON\n")[1]
CODE = re.compile(r"`([^`\n]+)`")


class Shell:
    """Runs ``gutscore-rs ... --json`` with a state folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state"
        self.case = folder / "case.toml"
        (folder / "driver_of_page.py").write_text("def main(manager, options, output):\n    return {}\n")
        self.case.write_text('[case]\nname = "page"\n[driver]\nfunction = "driver_of_page:main"\n')

    def __call__(self, *arguments: str) -> str:
        env = dict(os.environ) | {
            "GUTSCORE_RS_STATE_DIR": str(self.state),
            "GUTSCORE_RS_RUNTIME_DIR": str(self.state),
            "GUTSCORE_RS_HOST": "page-host",
        }
        command = [sys.executable, "-m", "gutscore_rs", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=env, timeout=90, check=True).stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    own = Shell(tmp_path)
    yield own
    if (own.state / "cases" / "page" / "access.json").exists():
        own("down", "page", "--purge")
    assert not kill_marked(f"{own.state}/cases/", prefix=True)


def in_table(name: str) -> set[str]:
    """Fields of the part of the page that is about a command."""
    text = JSON_PART.split(f"\n### {name}\n")[1].split("\n### ")[0]
    return {field for line in text.splitlines() if line.startswith("| `") for field in CODE.findall(line.split("|")[1])}


def in_others(name: str) -> set[str]:
    """Fields of the table of the smaller objects; values and meanings stand in parentheses."""
    (row,) = (line for line in JSON_PART.splitlines() if line.startswith(f"| `{name}` |"))
    return set(CODE.findall(re.sub(r"\([^)]*\)", "", row.split("|")[2]))) | {"schema"}


def test_the_page_has_the_fields_of_what_run_prints(shell: Shell) -> None:
    printed = shell.json("run", str(shell.case))
    assert set(printed) == in_table("run")
    rows, tasks = printed["resource_sets"], printed["tasks"]
    documented = set(CODE.findall(JSON_PART.split("\n### run\n")[1].split("\n### ")[0]))
    assert {name for row in rows for name in row} | set(tasks) <= documented
    assert rows


def test_the_page_has_the_fields_of_what_up_and_logs_print(shell: Shell) -> None:
    assert set(shell.json("up", str(shell.case))) == in_others("up")
    printed = shell.json("logs", "page")
    assert printed["logs"]
    assert set(printed) | {name for file in printed["logs"] for name in file} == in_others("logs")
