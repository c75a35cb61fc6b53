"""The Lua scripts: each file of ``store/lua`` is one atomic step, run by its name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

import redis
from redis.exceptions import NoScriptError, RedisError

from gutscore_rs.store.connection import translated
from gutscore_rs.store.line import Line
from gutscore_rs.store.records import raw_name

ScriptName = Literal[
    "attach",
    "beat",
    "cancel_calls",
    "count",
    "detach",
    "enqueue_jobs",
    "exchange",
    "expired",
    "fail_job",
    "forget",
    "lease",
    "leave",
    "live",
    "provisioner_beat",
    "record_execution",
    "register",
    "release_lease",
    "request",
    "restore",
    "return_job",
    "submit_calls",
    "transition",
]
Argument = str | bytes | int | float


@cache
def source(name: ScriptName) -> str:
    """The script's text: flags (``#!lua``: what it may do on a full server), what it uses of the prelude, the rest."""
    folder = files(__package__) / "lua"
    prelude, body = (folder / "prelude.lua").read_text(), (folder / f"{name}.lua").read_text()
    flags, body = body.split("\n", 1) if body.startswith("#!") else ("", body)
    text = _used(prelude, body) + body
    return f"{flags}\n{text}" if flags else text


def _used(prelude: str, body: str) -> str:
    """The definitions of the prelude that a script needs: each costs time at every call.

    They stand apart by blank lines, and a later one may use those before it.
    """
    needed = ""
    for block in reversed(prelude.split("\n\n")):
        defined = re.search(r"^local (?:function )?(\w+)", block, re.MULTILINE)
        code = re.sub(r"--.*", "", needed + body)
        if defined and re.search(rf"\b{defined[1]}\b", code):
            needed = f"{block.rstrip()}\n{needed}"
    return needed


@cache
def digest(name: ScriptName) -> str:
    """What Redis calls the script."""
    return hashlib.sha1(source(name).encode()).hexdigest()  # noqa: S324 - Redis names scripts by SHA-1


def load_scripts() -> None:
    """Read all scripts: before a fork, so that no child needs memory of its own for them."""
    for name in get_args(ScriptName):
        digest(name)


class Scripts:
    """Runs scripts on one client.

    Args:
        client: The connection.
        where: The server's address, for messages.
    """

    def __init__(self, client: redis.Redis, where: str) -> None:
        self._client = client
        self._where = where

    def command(self, name: ScriptName, keys: Sequence[str], arguments: Sequence[Argument]) -> Sequence[Argument]:
        """A script's call by its digest, as words to send."""
        # Names that are no text must reach Redis as they came from there.
        values = [raw_name(value) if type(value) is str and not value.isascii() else value for value in arguments]
        return ("EVALSHA", digest(name), len(keys), *keys, *values)

    def on_line(self, line: Line, name: ScriptName, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """As :meth:`run`, over a line."""
        command = self.command(name, keys, arguments)
        try:
            return line.call(command)[0]
        except NoScriptError:
            return line.call(("EVAL", source(name), *command[2:]))[0]

    def run(self, name: ScriptName, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run a script by its digest; a server that forgot it (restart, SCRIPT FLUSH) gets it again."""
        # Names that are no text must reach Redis as they came from there.
        values: list[Any] = [raw_name(value) if isinstance(value, str) else value for value in arguments]
        try:
            return self._client.evalsha(digest(name), len(keys), *keys, *values)
        except NoScriptError:
            with translated(self._where):
                return self._client.eval(source(name), len(keys), *keys, *values)
        except RedisError:
            # Not around the call: the context manager would cost every count as much as a tenth of its round trip.
            with translated(self._where):
                raise
