"""Every measurement, one after the other: ``python -m bench``."""

from __future__ import annotations

import subprocess
import sys

MEASUREMENTS = ("latency", "throughput", "connects", "fanout", "depth")


def main() -> None:
    for name in MEASUREMENTS:
        print(f"\n== {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"bench.{name}"], check=True)


if __name__ == "__main__":
    main()
