"""Whether somebody will ever run what waits: how much time the case's resource sets have left."""

from __future__ import annotations

from dataclasses import dataclass

from gutscore_rs.store import Store
from gutscore_rs.store.records import State


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the sets of a case promise.

    Attributes:
        longest: Most seconds that any set has left, a requested one its whole runtime; 0.0: there is none.
        why: How the sets stand that are no hope any more.
    """

    longest: float
    why: str

    @property
    def hopeless(self) -> bool:
        """Nobody works and nobody was asked for."""
        return self.longest <= 0.0


def look_ahead(store: Store) -> Outlook:
    """How the case's resource sets stand now."""
    now, longest, ended = store.time(), 0.0, []
    for record in store.sets.all():
        if record.state.ended or record.state in (State.DESCRIBED, State.RELEASING):
            why = f" ({record.error})" if record.error else ""
            ended.append(f"set {record.wgroup_id} is {record.state.value}{why}")
            continue
        left = record.deadline - now if record.deadline else float(record.runtime)
        longest = max(longest, left)
    return Outlook(longest, "; ".join(ended) or "no resource set was requested")
