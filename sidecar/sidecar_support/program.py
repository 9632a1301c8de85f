"""The real ``python -m agentcom_sidecar`` with a folder of its own."""

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

QUICK = {
    "result_poll_ms": 20,
    "progress_interval_ms": 50,
    "ack_timeout_ms": 400,
    "reconnect_min_ms": 20,
    "reconnect_max_ms": 100,
    "kill_grace_ms": 2000,
    "log_level": "debug",
}


class Program:
    """One sidecar: its configuration, its folder, and the process while it runs."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.folder = folder
        self.config_path = folder / "config.json"
        self.config: dict[str, Any] = {"agent_id": "w1", "token": "t" * 64, **QUICK, **config}
        self._process: asyncio.subprocess.Process | None = None
        self.pid = 0

    async def start(self, **environment: str) -> None:
        """Start it; again after it ended."""
        self.config_path.write_text(json.dumps(self.config))
        with (self.folder / "console").open("ab") as console:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "agentcom_sidecar", "run", "--config", str(self.config_path)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={**os.environ, **environment},
                cwd="/",
            )
        self.pid = self._process.pid

    async def kill(self) -> None:
        """SIGKILL: nothing can be tidied up."""
        self._signal(signal.SIGKILL)
        await self.wait()

    async def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        self._signal(signal.SIGTERM)
        return await self.wait()

    async def wait(self) -> int:
        """The exit code."""
        if self._process is None:
            raise AssertionError("not started")
        async with asyncio.timeout(15):
            return await self._process.wait()

    async def end(self) -> None:
        """Make sure that neither it nor an agent that it started runs any more."""
        if self._process is not None and self._process.returncode is None:
            await self.kill()
        for lock in self.folder.glob("data/runs/*/lock"):
            while _is_locked(lock):  # by the process that leads the agent's group, once it has begun
                began = lock.with_name("began.json")
                with contextlib.suppress(ProcessLookupError):
                    if began.exists():
                        os.killpg(json.loads(began.read_text())["pid"], signal.SIGKILL)
                await asyncio.sleep(0.01)

    def console(self) -> str:
        """Everything it wrote to stdout and stderr."""
        path = self.folder / "console"
        return path.read_text() if path.exists() else ""

    def logged(self, message: str) -> list[dict[str, Any]]:
        """The log lines with this event name."""
        lines = [json.loads(line) for line in self.console().splitlines() if line.startswith("{")]
        return [line for line in lines if line["message"] == message]

    def outbox(self) -> list[Path]:
        """Reports that wait for an acknowledgement."""
        return sorted((self.folder / "data" / "outbox").glob("*.json"))

    def refused(self) -> list[Path]:
        """Reports that the hub refused."""
        return sorted((self.folder / "data" / "outbox" / "refused").glob("*.json"))

    def task_in_hand(self) -> dict[str, Any] | None:
        """What the journal holds."""
        path = self.folder / "data" / "journal.json"
        stored: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return stored.get("task")

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise AssertionError("not started")
        self._process.send_signal(number)


def _is_locked(path: Path) -> bool:
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
