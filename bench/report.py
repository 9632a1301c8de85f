"""What every measurement prints: the machine, and figures in one shape."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path


def print_machine(redis_version: str) -> None:
    """One line about the machine, so that figures are never read without it."""
    model = "unknown processor"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    print(
        f"machine: {os.cpu_count()} x {model}, {memory_gib:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, server {redis_version}, load {load:.1f}"
    )
    print(f"disk:    fdatasync of 16 KiB takes {_sync_ms():.2f} ms (median): an acknowledgement waits for one")
    print(f"commit:  {_commit()}   command: {' '.join(['python', '-m', *sys.orig_argv[2:]])}")


def _sync_ms(rounds: int = 101) -> float:
    """What the store pays for every acknowledgement on this disk, in milliseconds."""
    taken = []
    with tempfile.NamedTemporaryFile(prefix="agentcom-bench-") as file:
        for _ in range(rounds):
            os.write(file.fileno(), bytes(16 * 1024))
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e3


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the values lie."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def print_latencies(label: str, seconds: Sequence[float]) -> None:
    """Median, tail and mean in milliseconds."""
    print(
        f"{label:<44} p50 {percentile(seconds, 0.5) * 1e3:7.2f} ms   p99 {percentile(seconds, 0.99) * 1e3:7.2f} ms   "
        f"mean {statistics.fmean(seconds) * 1e3:7.2f} ms   n {len(seconds)}"
    )
