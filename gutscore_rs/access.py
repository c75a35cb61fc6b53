"""How a process gets at a case's Redis: one file, mode 0600. Nothing secret ever stands in a command line."""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from gutscore_rs.errors import AccessError, ConfigError
from gutscore_rs.paths import check_case_name, write_private

SCHEMA = 1
KEY_BYTES = 32
_KEY_ID = re.compile(r"[0-9a-f]{16}")
SCHEMES = ("redis", "rediss", "unix")
_FIELDS = ("case", "url", "socket", "username", "password", "key_id")


@dataclass(frozen=True, slots=True)
class Access:
    """A case's Redis and the key that signs its operations.

    Attributes:
        case: The case's name.
        url: Address of a Redis of the user's, without a password; or None.
        socket: Unix socket of the embedded server; or None.
        username: ACL user, None for the default one.
        password: Its password.
        signing_key: 32 bytes; whoever has them may order workers.
        key_id: Names the key (16 hex digits).
        address: Where other hosts reach the embedded server, as a URL; None: only its socket is there.
    """

    case: str
    url: str | None
    socket: str | None
    username: str | None
    password: str | None = field(repr=False)
    signing_key: bytes = field(repr=False)
    key_id: str
    address: str | None = None

    @classmethod
    def new(
        cls,
        case: str,
        *,
        url: str | None = None,
        socket: str | None = None,
        username: str | None = None,
        password: str | None = None,
        address: str | None = None,
    ) -> Access:
        """Access with a fresh key. User name and password in the URL are taken out of it.

        Raises:
            ConfigError: The URL is none, or of another kind.
        """
        if (url is None) == (socket is None):
            raise ConfigError(f"The access of case {case!r} needs either a URL or a socket.")
        if url is not None:
            url, url_user, url_password = _split(url)
            username, password = username or url_user, password or url_password
        key, key_id = secrets.token_bytes(KEY_BYTES), secrets.token_hex(8)
        return cls(case, url, socket, username, password, key, key_id, address)


def _split(url: str) -> tuple[str, str | None, str | None]:
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError as error:
        raise ConfigError(f"The Redis URL is invalid: {error}. Example: redis://host:6379/0") from error
    if parts.scheme not in SCHEMES or not (parts.hostname or parts.path):
        raise ConfigError(
            f"The Redis URL has the scheme {parts.scheme!r}; it must be one of {', '.join(SCHEMES)}, as in "
            "redis://host:6379/0 or unix:///path/to/socket."
        )
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    # redis-py takes credentials from the query too.
    options = dict(parse_qsl(parts.query))
    user = options.pop("username", None) or unquote(parts.username or "") or None
    password = options.pop("password", None) or unquote(parts.password or "") or None
    query = f"?{urlencode(options)}" if options else ""
    return f"{parts.scheme}://{host}{port}{parts.path}{query}", user, password


def write_access(path: Path, access: Access) -> None:
    """Write the access file, atomically, mode 0600."""
    data = {
        "schema": SCHEMA,
        **{name: getattr(access, name) for name in _FIELDS},
        "address": access.address,
        "signing_key": access.signing_key.hex(),
    }
    write_private(path, json.dumps(data).encode())


def read_access(path: Path) -> Access:
    """Read an access file.

    Raises:
        AccessError: It is missing, not ours, readable by others, or garbled.
    """
    try:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            raw = stream.read(65536)
    except FileNotFoundError as error:
        raise AccessError(
            f"There is no access file {path}: the case does not run. Start it with `gutscore-rs up`."
        ) from error
    except OSError as error:
        raise AccessError(f"The access file {path} cannot be read: {error}.") from error
    if status.st_uid != os.geteuid():
        raise AccessError(f"The access file {path} belongs to user {status.st_uid}, not to us; it is not trusted.")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise AccessError(f"The access file {path} is open to others; it holds a key. Run `chmod 600 {path}`.")
    garbled = (
        f"The access file {path} is garbled. End the case with `gutscore-rs down`, remove the file, and start the "
        "case again."
    )
    try:
        data = json.loads(raw)
        if data["schema"] != SCHEMA:
            raise AccessError(f"The access file {path} has schema {data['schema']!r}; this version reads {SCHEMA}.")
        access = Access(
            **{name: data[name] for name in _FIELDS},
            signing_key=bytes.fromhex(data["signing_key"]),
            address=data.get("address"),
        )
        check_case_name(access.case)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AccessError(garbled) from error
    if not _is_plausible(access):
        raise AccessError(garbled)
    return access


def _is_plausible(access: Access) -> bool:
    optional = (access.url, access.socket, access.username, access.password, access.address)
    texts = (*(text or "" for text in optional), access.key_id)
    return (
        all(isinstance(text, str) for text in texts)
        and _KEY_ID.fullmatch(access.key_id) is not None
        and len(access.signing_key) == KEY_BYTES
        and (access.url is None) != (access.socket is None)
    )
