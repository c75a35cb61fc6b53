"""The read-only view of a case: what the command line, dashboards and scripts show. Schema 1 (docs/cli.md)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gutscore_rs.errors import SerializationError
from gutscore_rs.store import Store
from gutscore_rs.store.records import Event, ResourceSetRecord, WorkerRecord

SCHEMA = 1


class Overview:
    """Reads one case; writes nothing, on any node."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def count(self) -> dict[str, Any]:
        """Workers alive and expected: in all, by resource set, by host (``count --json``)."""
        records = self._store.sets.all()
        ids = [record.wgroup_id for record in records]
        live = self._store.workers.counts(ids)
        return {
            "schema": SCHEMA,
            "case": self._store.case,
            "active": sum(live.values()),
            "expected": sum(record.expected for record in records),
            "by_resource_set": {
                str(record.wgroup_id): {
                    "active": live[record.wgroup_id],
                    "expected": record.expected,
                    "state": record.state.value,
                }
                for record in records
            },
            "by_host": self._store.workers.counts_by_host(ids),
        }

    def workers(self) -> dict[str, Any]:
        """Every living worker (``workers --json``)."""
        rows = [self._worker(worker) for worker in self._store.workers.alive(self._store.sets.ids())]
        return {"schema": SCHEMA, "workers": sorted(rows, key=lambda row: (row["resource_set"], row["index"]))}

    @staticmethod
    def _worker(worker: WorkerRecord) -> dict[str, Any]:
        row = {
            name: getattr(worker, name)
            for name in ("resource_set", "index", "host", "pid", "started_at", "state", "job", "member")
        }
        return row | ({"slurm": worker.slurm} if worker.slurm else {})

    def status(self) -> dict[str, Any]:
        """Resource sets, provisioners and task queues (``status --json``)."""
        records = self._store.sets.all()
        now = self._store.time()
        live = self._store.workers.counts([record.wgroup_id for record in records])
        queues = sorted({queue for record in records for queue in record.spec.get("queues", [])})
        return {
            "schema": SCHEMA,
            "case": self._store.case,
            "resource_sets": [self._set(record, live[record.wgroup_id], now) for record in records],
            "provisioners": [asdict(record) for record in self._store.provisioners.alive()],
            "queues": self._store.jobs.tallies(queues),
        }

    @staticmethod
    def _set(record: ResourceSetRecord, active: int, now: float) -> dict[str, Any]:
        running = record.deadline and not record.state.ended
        return {
            "id": record.wgroup_id,
            "type": record.type,
            "state": record.state.value,
            "active": active,
            "expected": record.expected,
            "nworkers": record.nworkers,
            "peak_active": record.peak_active,
            "server": record.server,
            "runtime": record.runtime,
            "generation": record.generation,
            "seconds_left": max(0.0, round(record.deadline - now, 1)) if running else None,
            "requested_at": record.requested_at or None,
            "started_at": record.started_at or None,
            "ended_at": record.ended_at or None,
            "deadline": record.deadline or None,
            "error": record.error or None,
            "pending_reason": record.pending_reason or None,
        }

    def events(self, count: int = 100) -> dict[str, Any]:
        """The newest changes of state and deaths, oldest first (``events --json``)."""
        rows = [self.event_row("event", event) for event in self._store.history.events(count)]
        rows += [self.event_row("lost", event) for event in self._store.history.lost(count)]
        return {"schema": SCHEMA, "events": sorted(rows, key=lambda row: row["at"])[-count:]}

    @staticmethod
    def event_row(kind: str, event: Event) -> dict[str, Any]:
        """One entry of either stream, as a flat row."""
        return {"kind": kind, "at": event.at, "resource_set": event.resource_set, **event.fields}

    def garbage(self) -> list[str]:
        """What in Redis this version cannot read, for ``doctor``."""
        found = []
        for wgroup_id in self._store.sets.ids():
            try:
                self._store.sets.get(wgroup_id)
            except SerializationError as error:
                found.append(str(error))
        return found
