"""Opening Redis, judging whether it can serve, and saying in our own errors what went wrong."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.driver_info import DriverInfo
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)
from redis.retry import Retry

from gutscore_rs.access import Access
from gutscore_rs.errors import GutscoreError, StoreError, StoreUnavailableError, StoreUnsuitableError

# Else redis-py parses its own package metadata anew for each connection: half of the time that a connection takes.
DRIVER = {"driver_info": DriverInfo(lib_version=redis.__version__)}
MINIMUM_REDIS = (7, 0)
MINIMUM_VALKEY = (7, 2)
RETRIES = 3
# Seconds after which a command, or a connect, that failed is not tried again.
PATIENCE = 10.0


class BoundedRetry(Retry):
    """Attempts that end after a time, too.

    redis-py counts attempts only, and counts those to connect anew within each to send: on a connection that was cut
    without a word, 3 retries with a timeout of 5 s are 65 s in which the process does nothing else.

    Args:
        retries: How often at most.
        patience: Seconds after which nothing is tried again; the attempt that is under way then has its own timeout.
    """

    def __init__(self, retries: int, patience: float) -> None:
        super().__init__(ExponentialWithJitterBackoff(cap=1.0, base=0.05), retries)
        self._patience = patience

    def call_with_retry(self, do: Callable[[], Any], fail: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """As in redis-py; ``fail`` is called for every failure, the last one too."""
        ends = time.monotonic() + self._patience

        def fail_in_time(error: Exception, *more: Any) -> None:
            fail(error, *more)
            if time.monotonic() >= ends:
                raise error

        return super().call_with_retry(do, fail_in_time, *args, **kwargs)


def describe(access: Access) -> str:
    """The server's address for people; never holds a password."""
    return access.socket or access.url or "Redis"


def connect(
    access: Access, *, name: str = "", timeout: float = 5.0, retries: int = RETRIES, patience: float = PATIENCE
) -> redis.Redis:
    """A client for the Redis of ``access``; connects at its first command.

    Args:
        access: How to get there.
        name: Client name, shown by ``CLIENT LIST``.
        timeout: Seconds that a connect or a reply may take.
        retries: How often a command is sent again after a lost connection. redis-py sends scripts again
            too, so each of our mutating scripts is idempotent (see ``store/lua``).
        patience: Seconds after which it is not sent again.
    """
    options: dict[str, Any] = {
        "username": access.username,
        "password": access.password,
        "client_name": name or None,
        **DRIVER,
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": BoundedRetry(retries, patience),
        "health_check_interval": 30,
    }
    url = access.url
    if access.socket:
        if not access.address or _listens(access.socket):
            return redis.Redis(unix_socket_path=access.socket, **options)
        url = access.address
    if url is None:
        raise StoreUnsuitableError(f"The access of case {access.case!r} names neither a socket nor a URL.")
    if not url.startswith("unix:"):
        options["socket_keepalive"] = True
    return redis.Redis.from_url(url, **options)


def sibling(client: redis.Redis, *, retries: int = RETRIES, patience: float = PATIENCE) -> redis.Redis:
    """A client of the same settings with a connection of its own, for a process that was forked from ``client``'s."""
    pool = client.connection_pool
    options = dict(pool.connection_kwargs) | {"retry": BoundedRetry(retries, patience)}
    return redis.Redis(connection_pool=redis.ConnectionPool(connection_class=pool.connection_class, **options))


def _listens(path: str) -> bool:
    """Whether the embedded server is on this host: another may have a file of that name, left by its own server."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


@contextmanager
def sent_once(client: redis.Redis) -> Iterator[None]:
    """Within, nothing is sent again after a lost reply: RQ's own transactions are not made for it."""
    usual: Any = client.get_retry()
    client.set_retry(Retry(NoBackoff(), 0))
    try:
        yield
    finally:
        client.set_retry(usual)


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn redis-py's errors into ours; ``where`` names the server or the key."""
    try:
        yield
    except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
        raise StoreUnsuitableError(
            f"Redis at {where} refuses us: {error}. Check user name, password file and ACL."
        ) from error
    except ReadOnlyError as error:
        raise StoreUnsuitableError(
            f"Redis at {where} is read-only (a replica?): {error}. Give the address of the primary."
        ) from error
    except OutOfMemoryError as error:
        # Transient: results end by their TTL, and an outcome that waits must not be lost meanwhile.
        raise StoreUnavailableError(
            f"Redis at {where} is out of memory: {error}. Raise maxmemory; nothing was written."
        ) from error
    except (RedisConnectionError, RedisTimeoutError, BusyLoadingError) as error:
        raise StoreUnavailableError(
            f"Redis at {where} does not answer: {str(error).rstrip('.')}. Is the server running? "
            "(`gutscore-rs doctor` looks; `gutscore-rs up CASE` starts an embedded one.)"
        ) from error
    except RedisError as error:
        # Of a command in a pipeline redis-py says so after its number and name.
        if str(error).rpartition("caused error: ")[2].startswith("MISCONF"):
            raise StoreUnavailableError(
                f"Redis at {where} refuses writes, its disk is full or broken: {error}"
            ) from error
        raise StoreError(f"Redis at {where} refused a command: {error}") from error


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the server says of itself.

    Attributes:
        product: ``valkey`` or ``redis``.
        version: Its own version (Valkey also reports a Redis version for compatibility).
        run_id: Changes when the server restarts.
        warnings: Settings that put data at risk, each a sentence for people.
    """

    product: str
    version: str
    run_id: str
    warnings: tuple[str, ...]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def _facts(client: redis.Redis, where: str) -> dict[str, Any]:
    try:
        with translated(where):
            found: Any = client.info()
            return dict(found)
    except GutscoreError:
        raise
    except Exception as error:
        # redis-py takes for granted that a Redis answers: from others it gets answers of any type.
        raise StoreUnsuitableError(
            f"What listens at {where} is no Redis: its answer makes no sense ({error!r}). Check host and port."
        ) from error


def inspect_server(client: redis.Redis, where: str) -> ServerFacts:
    """Ask the server what it is, and refuse one that cannot serve.

    Raises:
        StoreUnsuitableError: Older than Redis 7.0 or Valkey 7.2, a replica, or a cluster node.
        StoreUnavailableError: No answer.
    """
    info = _facts(client, where)
    product = "valkey" if "valkey_version" in info else "redis"
    version = str(info.get("valkey_version") or info.get("redis_version") or "0")
    minimum = MINIMUM_VALKEY if product == "valkey" else MINIMUM_REDIS
    if _version(version) < minimum:
        wanted = ".".join(map(str, minimum))
        raise StoreUnsuitableError(
            f"Redis at {where} is {product} {version}; {wanted} or newer is needed. "
            "Upgrade it, or leave [redis] out to use the embedded server."
        )
    if info.get("role") not in (None, "master", "primary"):
        raise StoreUnsuitableError(f"Redis at {where} is a {info['role']}; give the address of the primary.")
    if int(info.get("cluster_enabled", 0)):
        raise StoreUnsuitableError(
            f"Redis at {where} is a cluster node; RQ needs a plain server or Sentinel (docs/redis-keys.md)."
        )
    return ServerFacts(product, version, str(info.get("run_id", "")), tuple(_risks(info)))


def _risks(info: dict[str, Any]) -> Iterator[str]:
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if int(info.get("maxmemory", 0)) and policy != "noeviction":
        yield f"maxmemory-policy is {policy}: Redis may throw away resource sets and jobs; set noeviction."
    if not int(info.get("aof_enabled", 0)):
        yield (
            "append-only file is off: a restart of Redis forgets requests and jobs that no running worker "
            "holds; set `appendonly yes`."
        )
