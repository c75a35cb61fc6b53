"""Lengths of time: Slurm's notation, whole seconds, and text for people.

Slurm writes times as ``minutes``, ``minutes:seconds``, ``hours:minutes:seconds``, ``days-hours``,
``days-hours:minutes`` and ``days-hours:minutes:seconds`` (sbatch(1), ``--time``): a bare number is *minutes*.
Everywhere else in this library a runtime is a whole number of seconds.
"""

from __future__ import annotations

import math
import re
import time

from gutscore_rs.errors import DurationError

MINUTE = 60
HOUR = 3600
DAY = 86400
# Slurm's own parser adds the parts up in a signed 32-bit number of seconds.
MAX_SECONDS = 2**31 - 1

# Only the first part may be of any size; where a form has fewer parts, the missing ones are zero.
_NUMBER = r"\d{1,9}"
_PATTERNS = tuple(
    re.compile(pattern.replace("#", _NUMBER), re.ASCII)
    for pattern in (
        r"(?P<days>#)-(?P<hours>#)(?::(?P<minutes>#)(?::(?P<seconds>#))?)?",
        r"(?P<hours>#):(?P<minutes>#):(?P<seconds>#)",
        r"(?P<minutes>#)(?::(?P<seconds>#))?",
    )
)
_UNITS = {"days": DAY, "hours": HOUR, "minutes": MINUTE, "seconds": 1}
_LIMITS = {"hours": 24, "minutes": 60, "seconds": 60}
_NO_LIMIT = frozenset({"unlimited", "infinite", "-1"})
_SHOWN_CHARACTERS = 60
_FORMS = "minutes, m:s, h:m:s, d-h, d-h:m or d-h:m:s, as for sbatch --time"


def parse_runtime(value: float | str) -> int:
    """Whole seconds of a runtime: a number is seconds (rounded up), a text is a Slurm time.

    Raises:
        DurationError: It is neither, is not positive, or has no end: a resource set must end.
    """
    if isinstance(value, str):
        seconds = parse_slurm_time(value)
        if seconds is None:
            raise DurationError(
                f"{_shown(value)} means no time limit, but a resource set must end; write e.g. '1:00:00'"
            )
        return seconds
    if isinstance(value, bool) or not isinstance(value, int | float):
        kind = type(value).__name__
        raise DurationError(f"must be a number of seconds or a Slurm time ({_FORMS}), not a {kind}")
    if isinstance(value, float) and not math.isfinite(value):
        raise DurationError(f"must be a finite number of seconds, not {value}")
    return _bounded(math.ceil(value), _shown(value))


def parse_slurm_time(text: str) -> int | None:
    """Whole seconds of a time in Slurm's notation; None when it means "no limit".

    No limit is UNLIMITED, INFINITE and -1 in any case, and a time of zero. Slurm itself also takes parts out
    of range and reads "1:75" as 135 s; that is refused here, since it is far more often a slip.

    Raises:
        DurationError: It is no Slurm time.
    """
    stripped = text.strip(" \t")
    if stripped.lower() in _NO_LIMIT:
        return None
    seconds = _seconds(stripped, _shown(text))
    return _bounded(seconds, _shown(text)) if seconds else None


def _seconds(text: str, shown: str) -> int:
    match = next(filter(None, (pattern.fullmatch(text) for pattern in _PATTERNS)), None)
    if match is None:
        raise DurationError(f"{shown} is no Slurm time; write {_FORMS}")
    parts = {unit: int(part) for unit, part in match.groupdict().items() if part is not None}
    for unit in list(parts)[1:]:
        if parts[unit] >= _LIMITS[unit]:
            raise DurationError(
                f"{shown} has {parts[unit]} {unit} after a larger unit, where 0 to {_LIMITS[unit] - 1} "
                f"belong; write {_FORMS}"
            )
    return sum(number * _UNITS[unit] for unit, number in parts.items())


def _bounded(seconds: int, shown: str) -> int:
    if seconds <= 0:
        raise DurationError(f"{shown} is not longer than zero; give seconds as a number or a time such as '1:00:00'")
    if seconds > MAX_SECONDS:
        raise DurationError(f"{shown} is longer than {MAX_SECONDS} s, the longest time that Slurm can hold")
    return seconds


def _shown(value: object) -> str:
    if isinstance(value, int) and abs(value) > MAX_SECONDS**2:
        return "a number of very many digits"  # repr() itself refuses the largest
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}... ({len(text)} characters)"


def format_slurm_time(seconds: float) -> str:
    """``HH:MM:SS`` or ``D-HH:MM:SS`` for sbatch, rounded *up* so that the limit is never shorter than asked.

    Raises:
        DurationError: Not positive (zero would mean "no limit" to Slurm), or not finite.
    """
    days, rest = divmod(parse_runtime(seconds), DAY)
    hours, rest = divmod(rest, HOUR)
    minutes, whole = divmod(rest, MINUTE)
    clock = f"{hours:02d}:{minutes:02d}:{whole:02d}"
    return f"{days}-{clock}" if days else clock


def format_duration(seconds: float) -> str:
    """A length of time for people, in its two largest units, as ``1 h 05 min``; negative counts as 0 s."""
    whole = max(0, round(seconds))
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return _two(whole, MINUTE, "min", 1, "s")
    if whole < DAY:
        return _two(whole, HOUR, "h", MINUTE, "min")
    return _two(whole, DAY, "d", HOUR, "h")


def _two(whole: int, unit: int, name: str, smaller: int, smaller_name: str) -> str:
    large, rest = divmod(whole, unit)
    small = rest // smaller
    return f"{large} {name} {small:02d} {smaller_name}" if small else f"{large} {name}"


def slurm_surplus(seconds: int) -> int:
    """Seconds that Slurm grants beyond a time limit: it rounds up to minutes (sbatch(1), ``--time``)."""
    return -seconds % MINUTE


def format_clock(seconds: float) -> str:
    """A Unix second as local date and time, for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
