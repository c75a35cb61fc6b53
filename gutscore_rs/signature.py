"""Signatures with a case's key (HMAC-SHA256, RFC 2104): who has the access file may order workers, nobody else.

Operations are signed as envelopes (``operations.envelope``). The description of a set is signed too, since reconcile
and launchers act on the set's hash, and others may have written there.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, Protocol

from gutscore_rs.access import Access
from gutscore_rs.errors import OperationRefusedError


class Described(Protocol):
    """What of a set's record is signed."""

    @property
    def wgroup_id(self) -> int: ...
    @property
    def server(self) -> str: ...
    @property
    def nworkers(self) -> int: ...
    @property
    def runtime(self) -> int: ...
    @property
    def seal(self) -> str: ...
    @property
    def spec(self) -> dict[str, Any]: ...


def mac(key: bytes, message: bytes) -> bytes:
    """32 bytes that only a holder of the key can make."""
    return hmac.new(key, message, hashlib.sha256).digest()


def sign_description(access: Access, wgroup_id: int, server: str, spec: Mapping[str, Any]) -> str:
    """The signature of a set's description, in hex; it stands in the hash beside it."""
    message = json.dumps(["description", access.case, wgroup_id, server, dict(spec)], sort_keys=True)
    return mac(access.signing_key, message.encode()).hex()


def check_description(access: Access, described: Described) -> None:
    """See that whoever described a set has the case's key.

    Raises:
        OperationRefusedError: Something of it was changed by somebody without the key.
    """
    spec = described.spec
    signed = sign_description(access, described.wgroup_id, described.server, spec)
    # These stand in the hash twice: inside the description, and readable beside it.
    copies = described.nworkers == spec.get("nworkers") and described.runtime == spec.get("runtime")
    if copies and hmac.compare_digest(described.seal.encode(), signed.encode()):
        return
    raise OperationRefusedError(
        f"The description of resource set {described.wgroup_id} is not signed with the key of case {access.case!r}; "
        "nothing is started. Whoever wrote it into Redis does not have this case's access file. Request the set again."
    )
