"""The case's driver: several independent TAMS runs, their mean, and its confidence interval.

The runs are independent and their estimates unbiased, so that Student's interval on their mean
needs no theory of the algorithm's variance. It takes the estimates as nearly normal; with few
trajectories per run they are skewed (README, "How far to trust the interval").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from double_well.farm import Farm, Manager
from double_well.options import Options
from double_well.plot import save_plot
from double_well.splitting import Run
from double_well.statistics import CONFIDENCE, Estimate, estimate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PLOT = "double_well.png"


def main(manager: Manager, options: Mapping[str, Any], output: Path) -> dict[str, Any]:
    """Estimate the probability of reaching well B within the horizon.

    Args:
        manager: Runs the trajectories (tasks) on the case's workers.
        options: ``[driver.options]`` of the case, see :class:`Options`.
        output: Folder for the plot; made if missing.

    Returns:
        JSON-able: the estimate, its interval, what it cost, and the path of the plot.
        ``relative_error`` is standard error / probability, None if the probability is 0.

    Raises:
        ValueError: For a bad or unknown option, before any task is enqueued.
        OSError: If the output folder cannot be made, also before any task.
        RuntimeError: If a task failed again and again.
    """
    checked = Options.from_mapping(options)
    output.mkdir(parents=True, exist_ok=True)
    runs = _runs(checked)
    farm = Farm(manager, checked.model, checked.seed)
    farm.work(runs, lambda: manager.progress(_progress(runs)))
    result = estimate([run.probability for run in runs])
    save_plot(output / PLOT, checked.model, runs, checked.reference or None)
    return _summary(result, runs, farm) | {"plot": str(output / PLOT)}


def _runs(options: Options) -> list[Run]:
    return [
        Run(
            options.model,
            trajectories=options.trajectories,
            discard=options.discard,
            max_iterations=options.max_iterations,
            seed=options.seed,
            number=number,
        )
        for number in range(options.repetitions)
    ]


def _progress(runs: Sequence[Run]) -> str:
    done = [run.probability for run in runs if run.finished]
    simulated = sum(run.simulated for run in runs)
    text = f"TAMS {len(done)}/{len(runs)} runs done, {simulated} trajectories"
    return f"{text}, P ~ {sum(done) / len(done):.1e}" if done else text


def _summary(result: Estimate, runs: Sequence[Run], farm: Farm) -> dict[str, Any]:
    return {
        "probability": result.mean,
        "confidence_interval": [result.low, result.high],
        "confidence": CONFIDENCE,
        "repetitions": len(runs),
        "trajectories": sum(run.simulated for run in runs),
        "iterations": sum(run.iterations for run in runs),
        "tasks": farm.tasks,
        "failed_tasks": farm.failed,
        "standard_error": result.standard_error,
        "relative_error": result.standard_error / result.mean if result.mean else None,
    }
