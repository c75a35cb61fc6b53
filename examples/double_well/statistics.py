"""Mean, standard error and confidence interval of a few independent estimates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIDENCE = 0.95


def student_probability(t: float, freedom: int) -> float:
    """P(|T| <= t) of Student's t with ``freedom`` degrees (finite sums, Abramowitz & Stegun 26.7.3-4)."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2 == 1
    term = cosine if odd else 1.0
    total = 0.0
    for power in range(1 + odd, freedom, 2):
        total += term
        term *= cosine * cosine * power / (power + 1)
    return 2.0 / math.pi * (angle + sine * total) if odd else sine * total


def student_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """The t with P(|T| <= t) = ``confidence``, by bisection."""
    low, high = 0.0, 1e6
    for _ in range(100):
        middle = 0.5 * (low + high)
        if student_probability(middle, freedom) < confidence:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error and Student's confidence interval.

    The interval's lower end is cut at 0, which a probability cannot be below.
    """

    mean: float
    standard_error: float
    low: float
    high: float


def estimate(values: Sequence[float]) -> Estimate:
    """Of at least two independent, identically distributed values."""
    mean = float(np.mean(values))
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = student_quantile(len(values) - 1) * error
    return Estimate(mean, error, max(0.0, mean - half), mean + half)
