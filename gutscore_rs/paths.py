"""Where things lie: the state folder, the folder of each case, its socket. Nothing goes into the current folder.

::

    <state folder>/                  0700; may be on a home that many hosts share
        hosts/<machine>              this host's name
        allocations-<host>.json      who has which CPUs and GPUs
        output/<case>/               what drivers write, unless told otherwise
        cases/<case>/
            access.json              how to reach the case's Redis (0600)
            lock, start.lock         held while server and case are started
            provisioners/            one record per provisioner: which process it is
            server/                  the embedded server: configuration, data, log, record
            logs/                    provisioner.log, set-<id>/g<generation>/{launcher,worker-<n>}.log
    <runtime or temp folder>/gutscore-rs-<uid>/<hash>.sock    the embedded server's socket (0700 folder)
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from gutscore_rs.errors import ConfigError, StateFolderError
from gutscore_rs.settings import Settings

CASE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# sockaddr_un.sun_path holds 108 bytes on Linux, 104 elsewhere, with the closing NUL (unix(7)).
SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103


def check_case_name(name: str) -> str:
    """The name, if it may be one of a case.

    Raises:
        ConfigError: It may not.
    """
    if not isinstance(name, str) or not CASE_NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r:.100} is no name of a case: 1 to 64 letters, digits, '_' and '-', the first a letter or digit."
        )
    return name


def private_folder(path: Path) -> Path:
    """Make a folder that is ours alone (0700), or see that it is.

    Raises:
        StateFolderError: It cannot be made, or others could write into it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A link must be ours, and so must what it leads to.
        owners = {path.lstat().st_uid, path.stat().st_uid} - {os.geteuid()}
    except FileExistsError as error:
        raise StateFolderError(f"{path} is a file where a folder is needed. Move it away.") from error
    except OSError as error:
        raise StateFolderError(
            f"The folder {path} cannot be made: {error}. Set GUTSCORE_RS_STATE_DIR to a folder that can be written."
        ) from error
    if owners:
        raise StateFolderError(
            f"{path} belongs to user {owners.pop()}, not to us (user {os.geteuid()}); it is not "
            "trusted. Set GUTSCORE_RS_STATE_DIR or GUTSCORE_RS_RUNTIME_DIR to a folder of yours."
        )
    if stat.S_IMODE(path.stat().st_mode) & 0o022:
        raise StateFolderError(f"Others may write into {path}. Run `chmod go-w {path}`.")
    if not os.access(path, os.W_OK | os.X_OK):
        raise StateFolderError(f"{path} cannot be written. Set GUTSCORE_RS_STATE_DIR to a folder that can.")
    return path


def write_private(path: Path, data: bytes) -> None:
    """Write a file of ours (0600), whole or not at all.

    Raises:
        StateFolderError: It cannot be written (read-only, disk full ...); what was there before is unchanged.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise StateFolderError(f"{path} cannot be written: {error}.") from error


@contextmanager
def locked(path: Path, timeout: float) -> Iterator[None]:
    """Hold a file's lock (flock(2)); it ends with the process.

    Raises:
        StateFolderError: Another process holds it too long; its pid is named.
    """
    ends = time.monotonic() + timeout
    descriptor = _flocked(path, ends, timeout)
    # A case's lock is removed with its folder: who waited for it then holds what nobody else will ever see.
    while not _is_at(path, descriptor):
        os.close(descriptor)
        descriptor = _flocked(path, ends, timeout)
    try:
        # Only for messages; a full disk is no reason to do without the lock.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _flocked(path: Path, ends: float, timeout: float) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StateFolderError(f"The lock {path} cannot be opened: {error}.") from error
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > ends:
                    holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
                    raise StateFolderError(
                        f"Process {holder} holds the lock {path} for more than {timeout:.0f} s. Is "
                        "another command at work on this case?"
                    ) from error
                time.sleep(0.02)
            except OSError as error:
                raise StateFolderError(
                    f"The file system of {path} cannot lock it: {error}. Set GUTSCORE_RS_STATE_DIR "
                    "to a folder on one that can."
                ) from error
            else:
                return descriptor
    except BaseException:
        os.close(descriptor)
        raise


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@dataclass(frozen=True, slots=True)
class CaseFolder:
    """The files of one case.

    Attributes:
        name: The case.
        root: Its folder.
        runtime_dir: Where its socket's folder is; None: the temp folder.
    """

    name: str
    root: Path
    runtime_dir: Path | None

    @property
    def access_file(self) -> Path:
        return self.root / "access.json"

    @property
    def lock_file(self) -> Path:
        return self.root / "lock"

    @property
    def server_dir(self) -> Path:
        return self.root / "server"

    @property
    def server_record(self) -> Path:
        return self.server_dir / "record.json"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def start_lock(self) -> Path:
        """Held while the case is brought up or taken down."""
        return self.root / "start.lock"

    @property
    def provisioners(self) -> Path:
        """One record per provisioner process."""
        return self.root / "provisioners"

    def log(self, stem: str) -> Path:
        """A log file."""
        return self.logs / f"{stem}.log"

    @property
    def socket(self) -> Path:
        """The embedded server's socket: never in the state folder, which may be on NFS.

        Raises:
            StateFolderError: No place gives a path that is short enough.
        """
        name = hashlib.blake2b(os.fsencode(self.root), digest_size=6).hexdigest() + ".sock"
        places = [self.runtime_dir, Path(tempfile.gettempdir())]
        tried = [place / f"gutscore-rs-{os.geteuid()}" / name for place in places if place is not None]
        for path in tried:
            if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
                return path
        raise StateFolderError(
            f"The socket's path {tried[-1]} has {len(os.fsencode(tried[-1]))} bytes; the system allows "
            f"{SOCKET_PATH_BYTES}. Set GUTSCORE_RS_RUNTIME_DIR to a folder with a shorter path."
        )

    def create(self) -> None:
        """Make the folders."""
        for folder in (self.root.parent, self.root, self.logs, self.server_dir, self.provisioners):
            private_folder(folder)

    def remove(self) -> None:
        """Remove the case's folder and socket."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.socket.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.socket.parent.rmdir()


@dataclass(frozen=True, slots=True)
class StateFolder:
    """The state folder.

    Attributes:
        root: Its path.
        runtime_dir: Where sockets go.
    """

    root: Path
    runtime_dir: Path | None

    @classmethod
    def open(cls, settings: Settings) -> StateFolder:
        """The folder that the settings name, else the user's; made if need be.

        Raises:
            StateFolderError: It cannot be used.
        """
        root = settings.state_dir or platformdirs.user_state_path("gutscore_rs")
        runtime = settings.runtime_dir
        # A login manager's folder may be gone (ssh, sudo, batch jobs): then the temp folder serves.
        usable = runtime if runtime is not None and runtime.is_dir() and os.access(runtime, os.W_OK) else None
        return cls(private_folder(root.absolute()), usable)

    def case(self, name: str) -> CaseFolder:
        """The folder of a case, which need not exist."""
        return CaseFolder(check_case_name(name), self.root / "cases" / name, self.runtime_dir)

    def case_names(self) -> list[str]:
        """Cases that have an access file."""
        return sorted(file.parent.name for file in (self.root / "cases").glob("*/access.json"))
