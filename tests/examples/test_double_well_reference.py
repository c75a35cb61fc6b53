"""The grid reference against itself, against one dimension, and against direct simulation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.linalg

from double_well.model import Model
from double_well.reference import _generator, probability, with_observed_target

EASY = Model(inverse_temperature=6.0, time_step=0.01, horizon=3.0, target_radius=0.4)


@pytest.mark.parametrize("name", ["double_well", "triple_well"])
def test_halving_the_spacing_divides_the_error_by_about_four(name):
    beta = {"double_well": 22.0, "triple_well": 3.5}[name]
    model = dataclasses.replace(EASY, potential=name, inverse_temperature=beta)
    coarse, middle, fine = (probability(model, spacing=spacing, interval=0.04) for spacing in (0.1, 0.05, 0.025))
    assert 2.5 < (coarse - middle) / (middle - fine) < 6.0
    assert middle == pytest.approx(fine, rel=0.02)


def test_a_smaller_interval_changes_nothing_that_matters():
    assert probability(EASY, spacing=0.05, interval=0.05) == pytest.approx(
        probability(EASY, spacing=0.05, interval=0.01), rel=1e-4
    )


def test_it_agrees_with_the_matrix_exponential_on_the_same_grid():
    """Another way through time: u = 1 - exp(t G) 1 outside of the target, exactly."""
    model = dataclasses.replace(EASY, horizon=1.0)
    x, y = np.linspace(-2.0, 2.0, 41), np.linspace(-1.2, 1.2, 25)
    inside = model.in_target(*np.meshgrid(x, y, indexing="ij")).ravel()
    killed = _generator(model, x, y).toarray()[~inside][:, ~inside]
    survival = scipy.linalg.expm(killed * model.horizon).sum(axis=1)
    start = np.flatnonzero(~inside).searchsorted(10 * 25 + 12)
    assert probability(model, spacing=0.1, interval=0.01, discrete=False) == pytest.approx(
        1 - survival[start], rel=1e-3
    )


def test_the_cells_jumps_are_in_balance_with_the_boltzmann_weights():
    x, y = np.linspace(-2.0, 2.0, 21), np.linspace(-1.2, 1.2, 13)
    generator = _generator(EASY, x, y).toarray()
    weights = np.exp(-EASY.inverse_temperature * EASY.landscape.value(x[:, None], y[None, :])).ravel()
    outside = ~EASY.in_target(*np.meshgrid(x, y, indexing="ij")).ravel()
    flux = (weights[:, None] * generator)[outside][:, outside]
    np.testing.assert_allclose(flux, flux.T, atol=1e-12 * flux.max())
    np.testing.assert_allclose(generator.sum(axis=1), 0.0, atol=1e-9)


def test_a_target_that_is_looked_at_seldom_is_smaller():
    seldom = dataclasses.replace(EASY, time_step=0.05)
    assert with_observed_target(seldom).target_radius < with_observed_target(EASY).target_radius < EASY.target_radius


@pytest.mark.parametrize("name", ["double_well", "triple_well"])
def test_it_agrees_with_direct_simulation_of_an_easier_case(name):
    model = dataclasses.replace(
        EASY, potential=name, inverse_temperature={"double_well": 6.0, "triple_well": 1.67}[name]
    )
    count = 20_000
    found = _hits(model, count, np.random.default_rng(4)) / count
    error = np.sqrt(found * (1 - found) / count)
    # Three standard errors, and two per cent for Euler-Maruyama's own error at this time step.
    assert probability(model, spacing=0.05) == pytest.approx(found, abs=3 * error + 0.02 * found)


def _hits(model, count, generator):
    """How many of ``count`` trajectories, all advanced at once, are seen in the target in time."""
    x, y = (np.full(count, start) for start in model.start)
    amplitude = np.sqrt(2.0 * model.time_step / model.inverse_temperature)
    for _ in range(model.steps):
        force_x, force_y = model.landscape.force(x, y, np.exp)
        x = x + force_x * model.time_step + amplitude * generator.standard_normal(len(x))
        y = y + force_y * model.time_step + amplitude * generator.standard_normal(len(y))
        outside = ~model.in_target(x, y)
        x, y = x[outside], y[outside]
    return count - len(x)
