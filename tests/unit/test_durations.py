from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gutscore_rs.durations import (
    MAX_SECONDS,
    format_duration,
    format_slurm_time,
    parse_runtime,
    parse_slurm_time,
)
from gutscore_rs.errors import ConfigError, DurationError

seconds = st.integers(1, MAX_SECONDS)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (100, 100), (0.2, 1), (1.0, 1), (61.5, 62),
        ("30", 1800), ("120", 7200), ("1:30", 90), ("90:30", 5430), ("0:01", 1),
        ("1:30:00", 5400), ("100:00:00", 360000), ("01:02:03", 3723),
        ("1-12", 36 * 3600), ("1-0", 86400), ("1-12:30", 86400 + 45000), ("1-00:00:01", 86401), ("2-23:59:59", 3 * 86400 - 1),
        (" 30 ", 1800),
    ],
)  # fmt: skip
def test_runtime_is_seconds_as_a_number_and_a_slurm_time_as_text(value, expected):
    assert parse_runtime(value) == expected


@pytest.mark.parametrize("value", ["1:75", "1:60", "1:60:00", "1:00:60", "1-24", "1-23:60", "1-23:59:60"])
def test_parts_out_of_range_are_refused(value):
    with pytest.raises(DurationError, match="after a larger unit"):
        parse_runtime(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "abc",
        "10 days",
        "1h",
        "-5",
        "-1:00",
        "1-",
        "-",
        "1:",
        ":30",
        "1:2:3:4",
        "1-2-3",
        "1.5",
        "1e3",
        "٣",
        "1\n2",
        "30\n",
        "1:00\0",
        "9" * 10_000,
    ],
)
def test_text_that_is_no_time_is_refused_in_a_short_message(value):
    with pytest.raises(DurationError) as caught:
        parse_runtime(value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        -0.5,
        math.nan,
        math.inf,
        -math.inf,
        True,
        False,
        None,
        [],
        10**20,
        10**400,
        MAX_SECONDS + 1,
        1e300,
    ],
)
def test_numbers_that_are_no_length_of_time_are_refused(value):
    with pytest.raises(DurationError):
        parse_runtime(value)


@pytest.mark.parametrize("value", ["UNLIMITED", "unlimited", "Infinite", "INFINITE", "-1", "0", "0:00", "0-0"])
def test_no_limit_is_read_but_is_no_runtime(value):
    assert parse_slurm_time(value) is None
    with pytest.raises(DurationError, match="must end"):
        parse_runtime(value)


def test_a_time_that_slurm_cannot_hold_is_refused():
    with pytest.raises(DurationError, match="longest"):
        parse_slurm_time("999999999-0")


def test_a_wrong_duration_is_a_wrong_configuration_and_a_value_error():
    assert issubclass(DurationError, ConfigError)
    assert issubclass(DurationError, ValueError)


@given(seconds)
def test_formatting_and_parsing_are_inverse(value):
    assert parse_slurm_time(format_slurm_time(value)) == value


@given(st.floats(1e-9, 1e9))
def test_formatting_never_shortens_and_adds_less_than_a_second(value):
    assert value <= parse_runtime(format_slurm_time(value)) < value + 1


@given(seconds, seconds)
def test_longer_stays_longer(first, second):
    assert (first < second) == (parse_runtime(format_slurm_time(first)) < parse_runtime(format_slurm_time(second)))


@given(st.integers(0, 10_000), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_every_form_of_the_manual_means_what_it_says(days, hours, minutes, secs):
    total = ((days * 24 + hours) * 60 + minutes) * 60 + secs
    assert parse_slurm_time(f"{days}-{hours}:{minutes}:{secs}") == (total or None)
    assert parse_slurm_time(f"{days * 24 + hours}:{minutes}:{secs}") == (total or None)
    assert parse_slurm_time(f"{total // 60}:{secs}") == (total or None)
    assert parse_slurm_time(f"{days}-{hours}:{minutes}") == (total - secs or None)
    assert parse_slurm_time(f"{total // 60}") == (total - secs or None)


@given(st.text())
def test_any_text_gives_a_time_or_a_clear_refusal(text):
    try:
        value = parse_slurm_time(text)
    except DurationError:
        return
    assert value is None or 0 < value <= MAX_SECONDS


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "00:00:01"),
        (59.2, "00:01:00"),
        (3600, "01:00:00"),
        (86399.5, "1-00:00:00"),
        (10 * 86400 + 61, "10-00:01:01"),
    ],
)
def test_slurm_times_are_written_with_all_parts(value, text):
    assert format_slurm_time(value) == text


@pytest.mark.parametrize("value", [0, -3, math.nan, math.inf])
def test_a_limit_of_zero_is_never_written_since_slurm_reads_it_as_none(value):
    with pytest.raises(DurationError):
        format_slurm_time(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (-5, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (59.6, "1 min"),
        (65, "1 min 05 s"),
        (3600, "1 h"),
        (3900, "1 h 05 min"),
        (86400 + 7200, "1 d 02 h"),
    ],
)
def test_people_read_two_units(value, text):
    assert format_duration(value) == text


def test_durations_load_nothing_heavy():
    code = "import sys, gutscore_rs.durations; print(sorted({m.split('.')[0] for m in sys.modules} & {'pydantic', 'redis', 'rq', 'rich', 'click', 'msgpack'}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert run.stdout.strip() == "[]"
