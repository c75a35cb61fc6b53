"""Stand-ins for a running case."""

from __future__ import annotations


class FakeRegistry:
    """Keeps what it was asked; ``fault`` is raised instead if it is set."""

    def __init__(self, case="fake", active=0):
        self.case = case
        self.active = active
        self.fault = None
        self.requests = []
        self.releases = []

    def request(self, wgroup_id, spec, *, timeout=600.0):
        self._fail()
        self.requests.append((wgroup_id, dict(spec), timeout))
        return len(self.requests)

    def release(self, wgroup_id, timeout):
        self._fail()
        self.releases.append((wgroup_id, timeout))

    def count(self, wgroup_id):
        self._fail()
        return self.active

    def _fail(self):
        if self.fault:
            raise self.fault
