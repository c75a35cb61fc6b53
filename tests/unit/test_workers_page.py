"""workers/README.md has every module of the processes, their exit codes and no others."""

from __future__ import annotations

import re
from pathlib import Path

from gutscore_rs_workers import children, provisioner, worker, workergroup

FOLDER = Path(__file__).parents[2] / "workers"
PAGE = (FOLDER / "README.md").read_text()


def test_the_page_has_every_module_and_no_other() -> None:
    rows = [line.split("|")[1] for line in PAGE.splitlines() if re.match(r"\| `[\w/]+\.py`", line)]
    listed = [name.removeprefix("gutscore_rs_workers/") for row in rows for name in re.findall(r"`([\w/]+\.py)`", row)]
    package = FOLDER / "gutscore_rs_workers"
    there = [str(file.relative_to(package)) for file in package.rglob("*.py") if file.name != "__init__.py"]
    assert sorted(listed) == sorted(there)


def test_the_page_has_the_exit_codes_of_each_process() -> None:
    table = PAGE.split("## Exit codes")[1].split("\n## ")[0]
    listed: dict[str, set[int]] = {}
    for process, code in re.findall(r"^\| (\w+) \| (\d+) \|", table, re.MULTILINE):
        listed.setdefault(process, set()).add(int(code))
    usage = 2  # argparse's
    assert listed == {
        "provisioner": {0, provisioner.EXIT_UNAVAILABLE, provisioner.EXIT_CONFIG},
        "launcher": {workergroup.EXIT_OK, usage, workergroup.EXIT_UNAVAILABLE, workergroup.EXIT_INTERNAL},
        "worker": {0, worker.EXIT_UNSURE, children.EXIT_INTERNAL},
    }
