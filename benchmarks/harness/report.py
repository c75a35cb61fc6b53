"""A table with the versions it was measured with, for people and as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness import ROOT

PACKAGES = ("gutscore_rs", "redis", "hiredis", "rq", "msgpack")


def arguments(description: str, *, runs: int) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--runs", type=int, default=runs, help=f"rounds; medians are given (default {runs})")
    parser.add_argument("--json", type=Path, default=None, help="where the figures go as JSON")
    return parser


def median(values: Iterable[float]) -> float:
    """Median, NaN of nothing."""
    found = list(values)
    return statistics.median(found) if found else float("nan")


def spread(values: Sequence[float], show: Callable[[float], str]) -> str:
    """``min / median / max`` as peers' figures are given."""
    return " / ".join(map(show, (min(values), median(values), max(values))))


class Report:
    """Collects rows, prints them as a Markdown table, writes them as JSON.

    Args:
        name: The script's name.
        title: What was measured.
        columns: Headings.
    """

    def __init__(self, name: str, title: str, columns: Sequence[str]) -> None:
        self.name = name
        self.title = title
        self.columns = list(columns)
        self.rows: list[list[str]] = []
        self.figures: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.servers: list[str] = []

    def add(self, cells: Sequence[str], **figures: Any) -> None:
        """A row for people, and the same in numbers."""
        self.rows.append(list(cells))
        self.figures.append(figures)

    def note(self, text: str) -> None:
        """A sentence below the table."""
        self.notes.append(text)

    def environment(self) -> dict[str, Any]:
        """What the figures depend on."""
        return {
            "date": time.strftime("%Y-%m-%d"),
            "python": platform.python_version(),
            "kernel": platform.release(),
            "cores": os.cpu_count(),
            "servers": self.servers,
            "packages": {name: version(name) for name in PACKAGES},
        }

    def show(self) -> None:
        """Print everything."""
        about = self.environment()
        versions = {"Python": about["python"]} | about["packages"]
        packages = ", ".join(f"{name} {number}" for name, number in versions.items())
        print(f"\n## {self.title}\n")
        print(f"{about['date']}; {', '.join([*self.servers, packages])}; {about['cores']} cores\n")
        widths = [max(len(row[i]) for row in [self.columns, *self.rows]) for i in range(len(self.columns))]
        self._line(self.columns, widths)
        self._line(["-" * width for width in widths], widths)
        for row in self.rows:
            self._line(row, widths)
        for text in self.notes:
            print(f"\n{text}")

    @staticmethod
    def _line(cells: Sequence[str], widths: Sequence[int]) -> None:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |")

    def write(self, path: Path | None) -> None:
        """Write the figures; by default to ``benchmarks/results``, which is not kept in git."""
        target = path or ROOT / "benchmarks" / "results" / f"{self.name}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        content = {"schema": 1, "benchmark": self.name} | self.environment() | {"rows": self.figures}
        target.write_text(json.dumps(content, indent=1) + "\n")
        print(f"\nFigures: {target}")
