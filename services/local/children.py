"""Child processes that end with their parent, however that ends."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.local.redis_server import bound_to_parent, start_watchdog
from services.local.welcome import shown
from services.runtime import StartupError

_STOP_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class _Child:
    name: str
    process: subprocess.Popen[bytes]
    log: Path
    watchdog: subprocess.Popen[bytes] | None


class Children:
    """Starts children in order and stops them in the opposite one."""

    def __init__(self) -> None:
        self._children: list[_Child] = []

    def start(self, name: str, command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> None:
        """Its output goes to ``log``. Start from the main thread: on Linux it ends with the thread that did."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                bound_to_parent(list(command)),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C goes to a whole process group; who stops when is decided here.
                start_new_session=True,
            )
        watchdog = None if sys.platform == "linux" else start_watchdog(parent=os.getpid(), child=process.pid)
        self._children.append(_Child(name, process, log, watchdog))

    def check(self) -> None:
        """Raises StartupError with the last words of a child that has ended."""
        for child in self._children:
            code = child.process.poll()
            if code is not None:
                raise StartupError(_last_words(child.log) or f"{child.name} ended ({code}): see {shown(child.log)}.")

    async def stop(self) -> None:
        """Asks those started later first, and waits for them; who does not go is killed."""
        while self._children:
            # Those of one kind go together: all but the first one started.
            going = self._children[1:] or self._children
            for child in going:
                if child.process.poll() is None:
                    child.process.terminate()
            await asyncio.gather(*(asyncio.to_thread(_reap, child) for child in going))
            self._children = [child for child in self._children if child not in going]

    def kill(self) -> None:
        """SIGKILL to all, now. ``stop`` then returns soon."""
        for child in self._children:
            if child.process.poll() is None:
                child.process.kill()


def _reap(child: _Child) -> None:
    try:
        child.process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        child.process.kill()
        child.process.wait()
    if child.watchdog is not None:
        child.watchdog.kill()
        child.watchdog.wait()


def _last_words(log: Path) -> str | None:
    """The sentence that a child of ours ends with when it can't run."""
    for line in reversed(log.read_text(errors="replace").splitlines()):
        if line.startswith("agentcom: "):
            return line.removeprefix("agentcom: ")
    return None
