"""The fork server: launchers without a Python start.

A provisioner forks it as soon as it has imported everything, and before it has a connection. An operation that carries
out a request sends it the orders of a launch: arguments, environment, folder, log. It forks a process that takes that
place and becomes the launcher, in a session of its own, adopted by the provisioner: it lives on without either. Where
there is no fork server (macOS, it was killed, a description with an environment of its own) a program is started.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gutscore_rs.settings import MARK
from gutscore_rs_workers.children import fork_process, run_and_exit
from gutscore_rs_workers.visible import retitle, take_environment

log = logging.getLogger(__name__)

# A server that does not answer within this time is stopped or hung; a program is started instead.
ANSWER_SECONDS = 1.0
_MOST_BYTES = 1 << 20

Main = Callable[[list[str]], int]


@dataclass(frozen=True, slots=True)
class ForkServer:
    """A running fork server.

    Attributes:
        pid: A child of the provisioner.
        control: Where orders go; operations inherit it.
    """

    pid: int
    control: socket.socket

    def launch(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log_file: Path) -> int | None:
        """Have a launcher forked.

        Args:
            argv: Its arguments.
            env: Its whole environment.
            cwd: Its folder.
            log_file: Where its output goes.

        Returns:
            Its pid; None when it took no orders in time. Should it take them later, nobody waits any more, and it ends.
        """
        orders = {"argv": list(argv), "env": dict(env), "cwd": str(cwd), "log": str(log_file)}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                ours.settimeout(ANSWER_SECONDS)
                self.control.settimeout(ANSWER_SECONDS)
                socket.send_fds(self.control, [json.dumps(orders).encode()], [theirs.fileno()])
            return int(ours.recv(32) or 0) or None
        except OSError as error:
            log.warning("the fork server took no orders: %s", error)
            return None
        finally:
            # Who answers after this finds nobody, and goes.
            ours.close()


def start_fork_server(main: Main, access: Path) -> ForkServer | None:
    """Fork the server; None where there can be none.

    Args:
        main: The launcher's ``main``.
        access: The case's access file, for people who look at ``ps``.
    """
    if sys.platform != "linux":
        return None
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = fork_process(
        lambda: _serve(theirs, main), keep=[theirs.fileno()], title=f"gutscore_rs: fork server of {access}"
    )
    theirs.close()
    return ForkServer(pid, ours)


def _serve(control: socket.socket, main: Main) -> int:
    # What is between us and a launcher ends at once, and nobody asks how.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, _MOST_BYTES, 1)
        if not message:
            return 0
        with socket.socket(fileno=descriptors[0]) as reply:
            if os.fork() == 0:
                # Its parent gone, the launcher is the provisioner's, which is told when it dies (prctl(2), subreaper).
                if os.fork() == 0:
                    control.close()
                    run_and_exit(partial(_become, json.loads(message), reply, main))
                os._exit(0)


def _become(orders: dict[str, Any], reply: socket.socket, main: Main) -> int:
    _take_place(orders)
    with reply:
        try:
            reply.send(str(os.getpid()).encode())
        except OSError:
            # Nobody waits for this launcher any more.
            return 0
    return main(orders["argv"])


def _take_place(orders: dict[str, Any]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.setsid()
    descriptor = os.open(orders["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)
    os.chdir(orders["cwd"])
    if not take_environment(orders["env"], MARK):
        raise OSError("this process cannot be marked: the environment of its provisioner is too small")
    retitle("gutscore_rs: launcher")
