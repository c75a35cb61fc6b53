"""The measure of the soak can fail: a leak is told from noise, warm-up and steps back."""

from __future__ import annotations

import random

import pytest
from support.soak import Table


def table(values: list[float]) -> Table:
    made = Table()
    for second, value in enumerate(values):
        made.add(second, {"x": value})
    return made


def noisy(slope: float, *, warm_up: float = 0.0) -> list[float]:
    dice = random.Random(7)
    return [30 + min(second, 20) / 20 * warm_up + slope * second + dice.gauss(0, 0.3) for second in range(60)]


@pytest.mark.parametrize(("slope", "low", "high"), [(0.0, -0.5, 0.5), (0.1, 2.5, 3.5), (-0.1, -3.5, -2.5)])
def test_growth_is_what_is_added_between_first_and_last_quarter(slope: float, low: float, high: float) -> None:
    assert low < table(noisy(slope)).growth("x", warm_up=1 / 3) < high


def test_a_warm_up_does_not_count_and_neither_does_an_outlier() -> None:
    values = noisy(0.0, warm_up=25)
    values[-3] += 100
    assert abs(table(values).growth("x", warm_up=1 / 3)) < 0.5


def test_too_few_samples_are_refused_and_gaps_are_left_out() -> None:
    with pytest.raises(AssertionError, match="only 4 samples"):
        table([1.0] * 6).growth("x", warm_up=1 / 3)
    made = table([1.0] * 20)
    made.rows[3].clear()
    assert made.growth("x", warm_up=0) == 0
    assert made.text().splitlines()[:5] == ["s\tx", "0\t1", "1\t1", "2\t1", "3\t"]
