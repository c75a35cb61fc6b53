"""The whole driver: against the reference, in any order, on real processes, with faults."""

from __future__ import annotations

import json
import pickle
import tomllib
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from support.managers import PoolManager, SynchronousManager

import double_well
from double_well import tams
from double_well.farm import RETRIES
from double_well.options import Options
from double_well.reference import probability
from double_well.statistics import estimate, student_quantile
from double_well.tams import main

CASE = Path(double_well.__file__).parent / "case.toml"
QUICK = {
    "inverse_temperature": 10.0,
    "time_step": 0.02,
    "horizon": 3.0,
    "trajectories": 8,
    "discard": 2,
    "repetitions": 4,
}


@pytest.fixture(scope="module")
def case_options():
    return tomllib.loads(CASE.read_text())["driver"]["options"]


@pytest.fixture(scope="module")
def case_result(case_options, tmp_path_factory):
    return main(SynchronousManager(), case_options, tmp_path_factory.mktemp("case"))


def without_plot(result):
    return {name: value for name, value in result.items() if name != "plot"}


def test_the_case_agrees_with_the_kolmogorov_equation_within_its_interval(case_options, case_result):
    reference = probability(Options.from_mapping(case_options).model)
    low, high = case_result["confidence_interval"]
    assert low <= reference <= high
    assert case_options["reference"] == pytest.approx(reference, rel=0.005)


def test_the_case_is_some_hundred_tasks_and_beats_direct_sampling(case_result):
    assert 200 <= case_result["tasks"] <= 1000
    assert case_result["trajectories"] == case_result["tasks"]
    p = case_result["probability"]
    assert case_result["relative_error"] < 0.75 * np.sqrt((1 - p) / p / case_result["trajectories"])


def test_the_result_is_json_and_names_the_plot(case_result):
    assert json.loads(json.dumps(case_result)) == case_result
    assert set(case_result) == {
        "probability", "confidence_interval", "confidence", "repetitions", "trajectories", "iterations",
        "tasks", "failed_tasks", "standard_error", "relative_error", "plot",
    }  # fmt: skip
    assert Path(case_result["plot"]).read_bytes().startswith(b"\x89PNG")


def test_many_runs_have_no_bias(tmp_path):
    """200 runs on the easier case, of all seeds together: within three standard errors of the reference."""
    options = {**QUICK, "time_step": 0.01, "repetitions": 100}
    results = [main(SynchronousManager(), {**options, "seed": seed}, tmp_path) for seed in (11, 12)]
    mean = np.mean([result["probability"] for result in results])
    error = np.hypot(*[result["standard_error"] for result in results]) / 2
    assert mean == pytest.approx(probability(Options.from_mapping(options).model), abs=3 * error)


def test_most_intervals_of_several_seeds_hold_the_reference(tmp_path, monkeypatch):
    monkeypatch.setattr(tams, "save_plot", lambda *_: None)
    reference = probability(Options.from_mapping({**QUICK, "repetitions": 12}).model, spacing=0.04)
    held = 0
    for seed in range(20):
        result = main(SynchronousManager(), {**QUICK, "repetitions": 12, "seed": seed}, tmp_path)
        held += result["confidence_interval"][0] <= reference <= result["confidence_interval"][1]
    assert held >= 15


def test_the_order_in_which_tasks_end_changes_nothing(tmp_path):
    results = [without_plot(main(SynchronousManager(shuffle), QUICK, tmp_path)) for shuffle in (None, 1, 2)]
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("workers", [1, 3])
def test_worker_processes_change_nothing(workers, tmp_path):
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        manager = PoolManager(pool)
        assert without_plot(main(manager, QUICK, tmp_path)) == without_plot(main(SynchronousManager(), QUICK, tmp_path))
    assert manager.lines[-1].startswith("TAMS 4/4 runs done, ")


def test_another_seed_gives_another_estimate(tmp_path):
    results = [main(SynchronousManager(), {**QUICK, "seed": seed}, tmp_path)["probability"] for seed in (1, 2)]
    assert results[0] != results[1]


def test_every_run_has_its_own_random_numbers(tmp_path):
    manager = SynchronousManager()
    main(manager, QUICK, tmp_path)
    seeds = [tuple(args[1]) for _, args in manager.calls]
    assert len(set(seeds)) == len(seeds)


def test_calls_are_small_and_plain(tmp_path):
    manager = SynchronousManager()
    main(manager, QUICK, tmp_path)
    assert max(len(pickle.dumps(call)) for call in manager.calls) < 1000
    assert all(json.loads(json.dumps(args)) == list(args) for _, args in manager.calls)


def test_an_unreachable_target_is_probability_zero_with_a_plot(tmp_path):
    result = main(SynchronousManager(), {**QUICK, "inverse_temperature": 1e9, "horizon": 0.1}, tmp_path)
    assert result["probability"] == 0.0
    assert result["relative_error"] is None
    assert Path(result["plot"]).stat().st_size > 10_000


def test_a_sure_event_is_probability_one(tmp_path):
    result = main(
        SynchronousManager(),
        {**QUICK, "inverse_temperature": 0.5, "horizon": 60.0, "repetitions": 2},
        tmp_path,
    )
    assert result["probability"] == pytest.approx(1.0)
    assert result["confidence_interval"] == [pytest.approx(1.0), pytest.approx(1.0)]
    assert result["iterations"] == 0


def test_a_task_that_fails_twice_is_run_again_and_the_estimate_is_the_same(tmp_path):
    sound = main(SynchronousManager(), QUICK, tmp_path)
    # Call 3 and its second attempt: the first 32 calls are the starts of all runs, then come the retries.
    manager = SynchronousManager(faults={3: OSError("node lost"), 32: OSError("node lost again")})
    result = main(manager, QUICK, tmp_path)
    assert result["failed_tasks"] == 2
    assert result["tasks"] == sound["tasks"] + 2
    assert result["trajectories"] == sound["trajectories"]
    assert result["probability"] == sound["probability"]


def test_a_task_that_fails_always_ends_the_driver_with_its_error(tmp_path):
    class Broken(SynchronousManager):
        def enqueue(self, function, *args, **kwargs):
            self.faults = {len(self.calls): ZeroDivisionError("the force is singular")} if args[1][1:] == [2, 5] else {}
            return super().enqueue(function, *args, **kwargs)

    with pytest.raises(RuntimeError, match=rf"(?s)trajectory 5 of run 2 failed {1 + RETRIES} times.*force is singular"):
        main(Broken(), QUICK, tmp_path)


def test_a_result_that_has_expired_is_computed_again(tmp_path):
    class Forgetful(SynchronousManager):
        def enqueue(self, function, *args, **kwargs):
            job = super().enqueue(function, *args, **kwargs)
            if len(self.calls) == 2:
                job.return_value = lambda: None
            return job

    result = main(Forgetful(), QUICK, tmp_path)
    assert result["failed_tasks"] == 1
    assert result["probability"] == main(SynchronousManager(), QUICK, tmp_path)["probability"]


def test_tasks_that_never_come_back_are_an_error_and_no_endless_loop(tmp_path):
    class Silent(SynchronousManager):
        def as_completed(self, jobs, timeout=None):
            return iter(list(jobs)[1:])

    with pytest.raises(RuntimeError, match="1 tasks did not come back"):
        main(Silent(), QUICK, tmp_path)


def test_a_bad_option_is_refused_before_any_task(tmp_path):
    manager = SynchronousManager()
    with pytest.raises(ValueError, match="unknown option 'beta'"):
        main(manager, {"beta": 3.0}, tmp_path)
    assert manager.calls == []


def test_an_output_folder_that_cannot_be_made_is_refused_before_any_task(tmp_path):
    (tmp_path / "taken").write_text("a file")
    manager = SynchronousManager()
    with pytest.raises(OSError, match="taken"):
        main(manager, QUICK, tmp_path / "taken" / "output")
    assert manager.calls == []


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 10, 31])
def test_students_quantile_is_scipys(freedom):
    assert student_quantile(freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), rel=1e-9)


def test_the_interval_is_never_below_zero():
    assert estimate([0.0, 0.0, 0.1]).low == 0.0
