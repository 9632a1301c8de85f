"""A hub of real processes on loopback, as in production: Redis with fsync always, and one of each service."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.hub import HubProcesses


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


@contextlib.contextmanager
def running_hub(*, namespace: str = "bench") -> Iterator[Hub]:
    """Starts a hub with an empty store and stops it afterwards. Logs go to files of a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="agentcom-bench-") as folder:
        no_limits = {"rate_light": 0, "rate_normal": 0, "rate_heavy": 0}
        processes = HubProcesses(Path(folder), namespace=namespace, settings={"log_level": "warning", **no_limits})
        try:
            processes.start_blocking()
            yield Hub(
                api_port=processes.one("api").port,
                gateway_port=processes.one("ws_gateway").port,
                admin_token=processes.admin_token,
                redis_url=processes.redis.url,
                pids={"redis": processes.redis.pid or 0} | {p.service: p.pid for p in processes.processes},
            )
        finally:
            processes.stop()
