"""The dynamics, the score and the tasks of the example."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import double_well
from double_well.model import Model, integrate
from double_well.potentials import POTENTIALS
from double_well.tasks import branch, decode, sample


@pytest.mark.parametrize("name", POTENTIALS)
def test_the_force_is_minus_the_gradient_of_the_potential(name):
    landscape, h = POTENTIALS[name], 1e-5
    x, y = np.random.default_rng(1).uniform(-1.5, 1.5, (2, 50))
    by_difference_x = -(landscape.value(x + h, y) - landscape.value(x - h, y)) / (2 * h)
    by_difference_y = -(landscape.value(x, y + h) - landscape.value(x, y - h)) / (2 * h)
    np.testing.assert_allclose(landscape.force(x, y, np.exp), (by_difference_x, by_difference_y), atol=1e-8)


@pytest.mark.parametrize("name", POTENTIALS)
def test_numbers_and_arrays_feel_the_same_force(name):
    force = POTENTIALS[name].force
    np.testing.assert_allclose(force(np.array([0.3]), np.array([-0.7]), np.exp), np.array(force(0.3, -0.7))[:, None])


@pytest.mark.parametrize("name", POTENTIALS)
def test_the_wells_are_minima(name):
    landscape = POTENTIALS[name]
    for well in (landscape.well_a, landscape.well_b):
        assert np.hypot(*landscape.force(*well)) < 0.15
        around = landscape.value(well[0] + 0.1 * np.cos(np.arange(8)), well[1] + 0.1 * np.sin(np.arange(8)))
        assert (around > landscape.value(*well)).all()


@pytest.mark.parametrize("name", POTENTIALS)
def test_the_score_is_one_exactly_on_the_target_and_zero_at_the_start(name):
    model = Model(potential=name)
    x, y = np.random.default_rng(2).uniform(-2, 2, (2, 100_000))
    np.testing.assert_array_equal(model.score(x, y) == 1.0, model.in_target(x, y))
    assert model.in_target(x, y).any()
    assert model.score(*model.start) == 0.0


def test_the_score_is_one_exactly_on_the_target_also_at_its_edge():
    model = Model()
    angle = np.linspace(0.0, 2 * np.pi, 10_001)
    x, y = 1.0 + model.target_radius * np.cos(angle), model.target_radius * np.sin(angle)
    inside = model.in_target(x, y)
    assert 0 < inside.sum() < len(inside)
    np.testing.assert_array_equal(model.score(x, y) == 1.0, inside)


def test_the_score_is_continuous_at_the_targets_edge():
    model = Model()
    assert model.score(1.0 - model.target_radius - 1e-6, 0.0) == pytest.approx(1.0, abs=1e-9)


def test_a_trajectory_ends_at_its_first_step_in_the_target():
    model = Model(inverse_temperature=3.0, horizon=50.0)
    path = integrate(model, model.start, model.steps, np.random.default_rng(3))
    inside = model.in_target(path[:, 0], path[:, 1])
    assert len(path) < model.steps
    assert inside[-1]
    assert not inside[:-1].any()


def test_a_trajectory_that_never_gets_there_has_all_its_steps():
    model = Model(inverse_temperature=1e6, horizon=1.0)
    assert integrate(model, model.start, model.steps, np.random.default_rng(3)).shape == (200, 2)


def test_a_free_particle_diffuses_as_the_temperature_says():
    """Within a time too short for the force to matter the variance is 2 t / beta."""
    model = Model(inverse_temperature=4.0, time_step=1e-4, horizon=1e-3)
    ends = [integrate(model, (-1.0, 0.0), 10, np.random.default_rng(n))[-1] for n in range(4000)]
    np.testing.assert_allclose(np.var(ends, axis=0), 2e-3 / 4.0, rtol=0.1)


def test_a_task_depends_on_its_seed_alone():
    model = Model(horizon=1.0).to_plain()
    assert sample(model, [1, 2, 3]) == sample(model, [1, 2, 3])
    others = [sample(model, seed)["positions"] for seed in ([1, 2, 3], [0, 2, 3], [1, 0, 3], [1, 2, 0])]
    assert len(set(others)) == 4


def test_a_branch_has_the_steps_that_are_left():
    model = Model(inverse_temperature=1e6, horizon=1.0)
    assert len(decode(branch(model.to_plain(), [1, 2, 3], 150, [-0.5, 0.1]))) == 50


@pytest.mark.parametrize(("step", "position"), [(10, [1.0, 0.0]), (200, [-1.0, 0.0])])
def test_a_branch_in_the_target_or_at_the_horizon_is_empty(step, position):
    assert decode(branch(Model(horizon=1.0).to_plain(), [1, 2, 3], step, position)).shape == (0, 2)


def test_a_worker_that_runs_the_tasks_does_not_load_what_only_the_driver_needs():
    source = "import sys, double_well.tasks; print(*{'matplotlib', 'scipy', 'rq', 'redis'} & set(sys.modules))"
    path = os.pathsep.join([str(Path(double_well.__file__).parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", source],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == ""


def test_a_model_survives_json():
    model = Model(potential="triple_well", inverse_temperature=3.5)
    assert Model.from_plain(json.loads(json.dumps(model.to_plain()))) == model
