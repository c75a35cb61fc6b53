"""What a case may say under [driver.options]."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import double_well
from double_well.options import Options

CASE = Path(double_well.__file__).parent / "case.toml"


def test_the_case_file_gives_every_option_and_equals_the_defaults_but_for_the_reference():
    given = tomllib.loads(CASE.read_text())["driver"]["options"]
    options = Options.from_mapping(given)
    assert set(given) == set(vars(options))
    assert {**vars(options), "reference": 0.0} == vars(Options())


def test_an_unknown_option_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"unknown option 'horizn' \(did you mean 'horizon'\?\)"):
        Options.from_mapping({"horizn": 3.0})


def test_an_integer_may_stand_for_a_number():
    assert Options.from_mapping({"horizon": 3}).horizon == 3.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("potential", "quadruple_well"),
        ("potential", 3),
        ("inverse_temperature", 0.0),
        ("inverse_temperature", "hot"),
        ("inverse_temperature", True),
        ("inverse_temperature", float("nan")),
        ("time_step", -0.1),
        ("time_step", 1e-5),
        ("horizon", 1.0012),
        ("horizon", float("inf")),
        ("target_radius", 2.5),
        ("trajectories", 1),
        ("trajectories", 16.0),
        ("discard", 0),
        ("discard", 16),
        ("repetitions", 1),
        ("max_iterations", 0),
        ("seed", -1),
        ("reference", 1.5),
    ],
)
def test_a_bad_value_is_refused_by_the_options_name(name, value):
    with pytest.raises(ValueError, match=f"option {name} = "):
        Options.from_mapping({name: value})
