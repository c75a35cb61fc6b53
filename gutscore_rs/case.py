"""Getting at a case: its folder here, its access file, its store. Starting and stopping is ``lifecycle``'s work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gutscore_rs.access import Access, read_access, write_access
from gutscore_rs.config import CaseConfig, RedisSection
from gutscore_rs.errors import AccessError, ConfigError
from gutscore_rs.identity import ProcessIdentity, this_host
from gutscore_rs.operations.client import OperationsClient
from gutscore_rs.paths import CaseFolder, StateFolder, check_case_name, locked
from gutscore_rs.settings import Settings
from gutscore_rs.store import Store

PASSWORD_MODE = 0o077


@dataclass(frozen=True, slots=True)
class Case:
    """An open case.

    Attributes:
        folder: Its folder in the state folder.
        host: This host's name in Redis.
        access: How to reach its Redis.
        store: Its store.
        queues: Short names of its task queues.
    """

    folder: CaseFolder
    host: str
    access: Access
    store: Store
    queues: tuple[str, ...] = ("tasks",)

    @property
    def name(self) -> str:
        return self.access.case

    def operations(self, requester: ProcessIdentity | None = None) -> OperationsClient:
        """The requester's side of operations; ``requester`` bounds sets with ``daemonize = false``."""
        return OperationsClient(self.store, self.access, self.host, requester=requester, queues=self.queues)

    def close(self) -> None:
        """Close the connections."""
        self.store.close()


def open_case(
    name: str, settings: Settings, *, redis: RedisSection | None = None, queues: tuple[str, ...] = ("tasks",)
) -> Case:
    """Open a case that runs, or whose Redis is named.

    Args:
        name: The case.
        settings: Where the state folder is; may name a Redis.
        redis: The ``[redis]`` section of its configuration.
        queues: Short names of its task queues.

    Raises:
        AccessError: It does not run, and no Redis is named.
    """
    state = StateFolder.open(settings)
    folder = state.case(check_case_name(name))
    access = find_access(folder, settings, redis)
    if access is None:
        running = ", ".join(state.case_names()) or "none"
        raise AccessError(
            f"Case {name!r} does not run here (running: {running}). Start it with `gutscore-rs up {name}`, or name a "
            "Redis in its [redis] section or in GUTSCORE_RS_REDIS_URL."
        )
    return Case(folder, this_host(settings, state.root), access, Store.open(access, name="gutscore-rs"), queues)


def open_config(config: CaseConfig, settings: Settings) -> Case:
    """Open the case of a configuration."""
    return open_case(config.name, settings, redis=config.redis, queues=tuple(config.tasks.queues))


def find_access(folder: CaseFolder, settings: Settings, redis: RedisSection | None = None) -> Access | None:
    """The access of a case: its file, or a new one when a Redis is named; None when neither is there.

    Raises:
        AccessError: The file is unusable, or belongs to another Redis than the one named.
    """
    url = (redis.url if redis else None) or settings.redis_url
    if not folder.access_file.exists():
        if url is None:
            return None
        folder.create()
        with locked(folder.lock_file, timeout=10.0):
            if not folder.access_file.exists():
                write_access(folder.access_file, _new_access(folder.name, url, settings, redis))
    access = read_access(folder.access_file)
    if url is not None and access.url != _new_access(folder.name, url, settings, redis).url:
        raise AccessError(
            f"Case {folder.name!r} already runs on {access.socket or access.url}, but its configuration names another "
            f"Redis. End it first with `gutscore-rs down {folder.name}`, or drop the [redis] section."
        )
    return access


def _new_access(name: str, url: str, settings: Settings, redis: RedisSection | None) -> Access:
    password_file = (redis.password_file if redis else None) or settings.redis_password_file
    password = read_password(Path(password_file)) if password_file else None
    return Access.new(name, url=url, username=redis.username if redis else None, password=password)


def read_password(path: Path) -> str:
    """The password in a file of ours that nobody else can read.

    Raises:
        ConfigError: It cannot be read, others can read it, or it is empty.
    """
    try:
        mode = path.stat().st_mode
        password = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The Redis password file {path} cannot be read: {error}.") from error
    if mode & PASSWORD_MODE:
        raise ConfigError(f"The Redis password file {path} can be read by others; run `chmod 600 {path}`.")
    if not password:
        raise ConfigError(f"The Redis password file {path} is empty.")
    return password
