"""A hub of real processes on loopback, as in production: Redis with fsync always, and one of each service."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from services.local.redis_server import EmbeddedRedis

SERVICES = ("api", "ws_gateway", "scheduler", "reaper")
START_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Hub:
    """Where a running hub is reached, and its processes by service name (``redis`` is one)."""

    api_port: int
    gateway_port: int
    admin_token: str
    redis_url: str
    pids: dict[str, int]

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time of each process so far."""
        used = {}
        for name, pid in self.pids.items():
            times = psutil.Process(pid).cpu_times()
            used[name] = times.user + times.system
        return used

    def memory_bytes(self, service: str) -> int:
        """Resident memory of a process."""
        return int(psutil.Process(self.pids[service]).memory_info().rss)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_hub(*, namespace: str = "bench") -> Iterator[Hub]:
    """Starts a hub with an empty store and stops it afterwards. Logs go to files of the temporary folder."""
    with tempfile.TemporaryDirectory(prefix="agentcom-bench-") as folder:
        redis = EmbeddedRedis(Path(folder), appendfsync="always")
        redis.start_blocking()
        token = secrets.token_hex(32)
        ports = {"api": free_port(), "ws_gateway": free_port()}
        processes: dict[str, subprocess.Popen[bytes]] = {}
        try:
            for service in SERVICES:
                processes[service] = _start(
                    service,
                    Path(folder),
                    {
                        "AGENTCOM_REDIS_URL": redis.url,
                        "AGENTCOM_NAMESPACE": namespace,
                        "AGENTCOM_DATA_DIR": folder,
                        "AGENTCOM_ADMIN_TOKEN": token,
                        "AGENTCOM_PORT": str(ports.get(service, 0)),
                        "AGENTCOM_LOG_LEVEL": "warning",
                        "AGENTCOM_LOG_FORMAT": "json",
                    },
                )
            for port in ports.values():
                _wait_for(port, processes, Path(folder))
            pids = {name: process.pid for name, process in processes.items()}
            pids["redis"] = redis.pid or 0
            yield Hub(ports["api"], ports["ws_gateway"], token, redis.url, pids)
        finally:
            for process in processes.values():
                process.terminate()
            for process in processes.values():
                process.wait(timeout=30)
            redis.stop()


def _start(service: str, folder: Path, settings: dict[str, str]) -> subprocess.Popen[bytes]:
    with (folder / f"{service}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"services.{service}"],
            env={**os.environ, **settings},
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )


def _wait_for(port: int, processes: dict[str, subprocess.Popen[bytes]], folder: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        for name, process in processes.items():
            if process.poll() is not None:
                raise SystemExit(f"{name} ended with {process.returncode}:\n{(folder / f'{name}.log').read_text()}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
        except urllib.error.HTTPError:
            return  # it answers; the gateway has no such page
        except OSError:
            if time.monotonic() > deadline:
                raise SystemExit(f"nothing answers on port {port}") from None
            time.sleep(0.05)
        else:
            return
