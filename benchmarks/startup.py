"""How long commands take to start: ``gutscore-rs --help`` beside Python itself and ``rq --help``.

``python benchmarks/startup.py [--runs 15]``
"""

from __future__ import annotations

import subprocess
import sys
import time

from harness.report import Report, arguments, median, spread

COMMANDS: dict[str, list[str]] = {
    "python -c pass (the floor)": ["-c", "pass"],
    "gutscore-rs --help": ["-m", "gutscore_rs", "--help"],
    "gutscore-rs --version": ["-m", "gutscore_rs", "--version"],
    "rq --help": ["-m", "rq.cli", "--help"],
    "import gutscore_rs": ["-c", "import gutscore_rs"],
    "import gutscore_rs.store": ["-c", "import gutscore_rs.store"],
    "a launcher's imports": ["-c", "import gutscore_rs_workers.workergroup"],
    "a provisioner's imports": ["-c", "import gutscore_rs_workers.provisioner"],
}


def seconds(command: list[str]) -> float:
    """One start, by the wall clock."""
    began = time.monotonic()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def main() -> None:
    """Measure and report."""
    options = arguments("Start of commands and imports.", runs=15).parse_args()
    report = Report("startup", "Start of commands and imports", ["command", "s, min / median / max", "x floor, median"])
    took: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(options.runs + 1):
        for name, command in COMMANDS.items():
            once = seconds(command)
            # The first round fills caches.
            if number:
                took[name].append(once)
    base = next(iter(took.values()))
    for name, values in took.items():
        ratio = median(value / ground for value, ground in zip(values, base, strict=True))
        cells = [name, spread(values, "{:.3f}".format), f"{ratio:.1f}"]
        report.add(cells, command=name, seconds=values, ratio=ratio)
    report.show()
    report.write(options.json)


if __name__ == "__main__":
    main()
