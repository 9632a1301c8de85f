"""A hub of real processes on loopback, as in production: Redis with fsync always, and any number of each service.

Whatever happens to the process that made it, nothing it started is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import httpx
import orjson

from agentcom.settings import Settings
from agentcom.store.store import Store
from services.local.redis_server import EmbeddedRedis, bound_to_parent
from tests.support.eventually import eventually
from tests.support.ports import free_port

#: A process that starts has this long on a busy machine.
START_TIMEOUT_S: Final = 60.0
ONE_OF_EACH: Final[Mapping[str, int]] = {"api": 1, "ws_gateway": 1, "scheduler": 1, "reaper": 1}

_ROOT: Final = Path(__file__).resolve().parents[2]
_STOP_TIMEOUT_S: Final = 20.0
#: Log events that no failure of the surroundings excuses.
_DEFECTS: Final = frozenset({"unhandled_error", "component_stalled", "task_ignores_cancellation", "service_failed"})


class ServiceProcess:
    """One copy of one service. It keeps its port over restarts; its output is appended to one file."""

    def __init__(self, service: str, number: int, *, folder: Path, settings: Mapping[str, str]) -> None:
        self.service = service
        self.name = f"{service}-{number}"
        self.port = free_port()
        self.log_file = folder / f"{self.name}.log"
        self.settings = dict(settings)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id. Raises AssertionError when it does not run."""
        assert self._process is not None, f"{self.name} does not run"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def spawn(self) -> None:
        """Starts it, or starts it again, without waiting for it."""
        assert not self.running, f"{self.name} runs already"
        listening = {"AGENTCOM_PORT": str(self.port), "AGENTCOM_HEALTH_PORT": str(self.port)}
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                bound_to_parent([sys.executable, "-m", f"services.{self.service}"]),
                env={**os.environ, **listening, **self.settings},
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    async def start(self) -> None:
        """Starts it and waits until it is ready."""
        self.spawn()
        await self.wait_until_ready()

    async def wait_until_ready(self, *, timeout: float = START_TIMEOUT_S) -> None:
        """Raises AssertionError with its output if it ends instead."""

        async def ready() -> bool:
            if not self.running:
                code = self._process.returncode if self._process else None
                raise RuntimeError(f"{self.name} ended with {code}:\n{self.output()[-4000:]}")
            try:
                return (await client.get(f"{self.url}/health/ready")).status_code == 200
            except httpx.HTTPError:
                return False

        async with httpx.AsyncClient(timeout=2, trust_env=False) as client:
            await eventually(ready, timeout=timeout, message=f"{self.name} did not become ready")

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: its connections stay open and it does nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        os.kill(self.pid, signal.SIGTERM)

    async def wait(self, *, timeout: float = _STOP_TIMEOUT_S) -> int:
        """The exit code, once it has ended."""
        process = self._process
        assert process is not None, f"{self.name} was never started"
        await eventually(lambda: process.poll() is not None, timeout=timeout, message=f"{self.name} did not end")
        return process.returncode

    async def restart(self) -> None:
        """SIGKILL, if it runs, and a new start on the same port."""
        self.kill()
        await self.start()

    def output(self) -> str:
        """All that it and its predecessors wrote."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def logged(self, event: str) -> list[dict[str, object]]:
        """The log lines of an event."""
        return [line for line in self._lines() if line.get("message") == event]

    def defects(self) -> list[str]:
        """Log lines that tell of a defect of the service itself: an exception that nothing expected."""
        found = [orjson.dumps(line).decode() for line in self._lines() if "exception" in line or _is_defect(line)]
        tracebacks = [line for line in self.output().splitlines() if line.startswith("Traceback ")]
        return [f"{self.name}: {text}" for text in [*found, *tracebacks]]

    def _lines(self) -> list[dict[str, object]]:
        lines = []
        for line in self.output().splitlines():
            with contextlib.suppress(orjson.JSONDecodeError):
                value = orjson.loads(line)
                if isinstance(value, dict):
                    lines.append(value)
        return lines


class HubProcesses:
    """All processes of a hub.

    ``copies`` says how many of each service; ``settings`` are by the names they have in Settings, for all services.
    ``redis_url`` is what the services are told, if it is not where Redis really is (a proxy stands in between).
    """

    def __init__(
        self,
        folder: Path,
        *,
        namespace: str = "hub",
        copies: Mapping[str, int] = ONE_OF_EACH,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.folder = folder
        self.namespace = namespace
        self.admin_token = secrets.token_hex(32)
        self.redis = EmbeddedRedis(folder, appendfsync="always", port=free_port())
        self.redis_url: str | None = None
        self._copies = dict(copies)
        self._settings = {f"AGENTCOM_{name.upper()}": str(value) for name, value in (settings or {}).items()}
        self.processes: list[ServiceProcess] = []

    # -- life ------------------------------------------------------------------------------------------------------

    async def start_redis(self) -> None:
        """Starts Redis alone; ``start`` does it otherwise."""
        await self.redis.start()

    async def start(self) -> None:
        """Starts everything and returns when all of it is ready."""
        if not self.redis.running:
            await self.start_redis()
        for service, count in self._copies.items():
            for _ in range(count):
                self.add(service).spawn()
        await asyncio.gather(*[process.wait_until_ready() for process in self.processes])

    def start_blocking(self) -> None:
        """The same without an event loop."""
        with asyncio.Runner() as runner:
            runner.run(self.start())

    def add(self, service: str, **settings: object) -> ServiceProcess:
        """One more copy of a service, not started yet, with settings of its own."""
        number = len(self.of(service))
        own = {f"AGENTCOM_{name.upper()}": str(value) for name, value in settings.items()}
        process = ServiceProcess(service, number, folder=self.folder, settings={**self._environment(), **own})
        self.processes.append(process)
        return process

    def _environment(self) -> dict[str, str]:
        return {
            "AGENTCOM_REDIS_URL": self.redis_url or self.redis.url,
            "AGENTCOM_NAMESPACE": self.namespace,
            "AGENTCOM_DATA_DIR": str(self.folder),
            "AGENTCOM_ADMIN_TOKEN": self.admin_token,
            "AGENTCOM_LOG_FORMAT": "json",
            # Loads are made by one or two identities; tests of the limits set their own.
            "AGENTCOM_RATE_LIGHT": "0",
            "AGENTCOM_RATE_NORMAL": "0",
            "AGENTCOM_RATE_HEAVY": "0",
            **self._settings,
        }

    def stop(self) -> None:
        """Ends everything, however it is: SIGTERM first, so that connections close as they would."""
        running = [process for process in self.processes if process.running]
        for process in running:
            process.thaw()
            process.terminate()
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                assert process._process is not None
                process._process.wait(_STOP_TIMEOUT_S)
            process.kill()
        self.redis.stop()

    # -- what runs -------------------------------------------------------------------------------------------------

    def of(self, service: str) -> list[ServiceProcess]:
        """All copies of a service."""
        return [process for process in self.processes if process.service == service]

    def one(self, service: str, number: int = 0) -> ServiceProcess:
        return self.of(service)[number]

    @property
    def api_url(self) -> str:
        return self.one("api").url

    @property
    def socket_urls(self) -> list[str]:
        """Where agents connect, one address for each gateway."""
        return [f"ws://127.0.0.1:{process.port}/ws" for process in self.of("ws_gateway")]

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """A store of the test's own, straight to Redis."""
        settings = Settings(namespace=self.namespace)
        async with Store(self.redis.url, settings) as store:
            yield store

    def defects(self) -> list[str]:
        """What the logs say that must never be said."""
        return [text for process in self.processes for text in process.defects()]

    def logs(self) -> str:
        """The ends of all logs, for the report of a failed test."""
        parts = [f"--- {process.name}\n{_without_noise(process.output())[-6000:]}" for process in self.processes]
        return "\n".join(parts)


def _is_defect(line: Mapping[str, object]) -> bool:
    return line.get("message") in _DEFECTS


def _without_noise(text: str) -> str:
    return re.sub(r'"pid":\d+,?|"logger":"[^"]*",?', "", text)
