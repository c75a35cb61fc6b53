"""How many jobs a worker takes at once: many that are over at once, one that lasts.

A round trip to Redis takes longer than many a job. But who holds jobs keeps them from others: a batch is of some 50 ms
of expected work at most (rulings 2), and its launcher takes the rest from a worker that was wrong about that.
"""

from __future__ import annotations

TARGET_SECONDS = 0.05
LARGEST_BATCH = 64


class Pace:
    """Learns from each batch how large the next may be.

    Args:
        largest: Never more than this; 1 for tasks that must not run twice, whatever happens.
    """

    def __init__(self, largest: int = LARGEST_BATCH) -> None:
        self._largest = largest
        self.size = 1

    def learn(self, jobs: int, seconds: float, longest: float) -> None:
        """Take note of a batch.

        Args:
            jobs: How many were run.
            seconds: How long they took together.
            longest: How long the longest one took.
        """
        if jobs == 0:
            return
        if longest > TARGET_SECONDS:
            self.size = 1
            return
        fitting = TARGET_SECONDS * jobs / seconds if seconds > 0 else self._largest
        self.size = max(1, int(min(fitting, 2 * self.size, self._largest)))
