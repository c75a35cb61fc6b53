"""The first process of a host that a test made: the host runs while it does.

It buries what lost its parent, as init does. Its standard input is the power: when nobody holds the other end any more,
because the test process ended in whatever way, it ends, and the kernel kills everything that runs in its pid namespace
(pid_namespaces(7)) and takes the network namespace down with that.
"""

from __future__ import annotations

import os
import selectors
import signal


def main() -> None:
    """Say that the host is up, then wait for the end."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ)
    selector.register(reading, selectors.EVENT_READ)
    os.write(1, b"up\n")
    while True:
        for key, _ in selector.select():
            if not os.read(key.fd, 4096):
                return
        _bury()


def _bury() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    main()
