"""Ports for the servers of tests: no two processes that run tests are given the same one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path
from typing import Final

_RANGE: Final = (10_000, 32_000)  # below the range from which outgoing connections take theirs
_reserved: list[int] = []
"""Descriptors of locked files, one for each port given out; the locks end with this process."""


def free_port() -> int:
    """A port of the loopback address that nothing listens on, kept for this process for as long as it lives.

    That nothing listens is not enough: two processes may look at the same moment, each before its server starts.
    """
    while True:
        port = random.SystemRandom().randrange(*_RANGE)
        if _reserve(port):
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port


def _reserve(port: int) -> bool:
    folder = Path(tempfile.gettempdir()) / f"agentcom-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    file = os.open(folder / str(port), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    _reserved.append(file)
    return True
