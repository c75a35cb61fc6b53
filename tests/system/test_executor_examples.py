"""What scientists already use runs on a case's workers as it is: the examples, from nothing to nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "executor"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("GUTSCORE_RS_STATE_DIR", str(tmp_path / "state"))

    def run_example(name: str) -> tuple[dict[str, Any], str]:
        command = [sys.executable, "-m", "gutscore_rs", "run", str(EXAMPLES / f"{name}.toml"), "--json"]
        done = subprocess.run(
            [*command, "--output", str(tmp_path / "out")], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), done.stderr

    return run_example


def test_scipy_finds_the_optimum_through_map(run: Any) -> None:
    summary, _ = run("scipy")
    result = summary["driver"]
    assert abs(result["minimum"]) < 1e-6
    assert result["at"] == [0.0] * 4


def test_joblib_runs_its_batches_on_the_workers(run: Any) -> None:
    summary, _ = run("joblib")
    result = summary["driver"]
    assert result["repetitions"] == 40
    assert abs(result["pi"] - 3.14159) < 0.01
