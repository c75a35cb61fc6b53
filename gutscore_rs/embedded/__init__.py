"""The embedded server: a Valkey of the case's own, for whoever has no Redis."""

from __future__ import annotations

from gutscore_rs.embedded.server import ServerRecord, address_of, find, start, stop

__all__ = ["ServerRecord", "address_of", "find", "start", "stop"]
