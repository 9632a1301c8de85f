"""What a submit and a match cost, by how much is queued and by how many signatures nobody serves.

Run: ``python -m bench.depth [--depths 0,10000,100000,1000000] [--signatures 1000] [--rounds 4000]``. The script cost
is the server's own count of the time it spent in scripts (``INFO commandstats``), as the median over blocks of calls,
so that what else runs on the machine hardly shows; the time on the wall is that of one call at a time, with
``appendfsync always``.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from agentcom.domain.tasks import NewTask, TaskId
from agentcom.settings import Settings
from agentcom.store.agents import Connection
from agentcom.store.matching import MatchRequest
from agentcom.store.store import Store
from agentcom.store.tokens import Role, digest
from bench.report import print_machine
from services.local.redis_server import EmbeddedRedis

CHUNK = 1_000
BLOCK = 100
AGENT = "bench-agent"
GATEWAY = "bench-gateway"


def new_task(*capabilities: str) -> NewTask:
    return NewTask(
        id=TaskId(f"task-{secrets.token_hex(8)}"),
        description="measure the cost of one task",
        submitted_by="bench",
        needed_capabilities=capabilities,
    )


async def fill(store: Store, count: int, capabilities: Callable[[int], tuple[str, ...]]) -> None:
    """Queues tasks that no connected agent serves."""
    for start in range(0, count, CHUNK):
        await store.tasks.submit_many([new_task(*capabilities(start + n)) for n in range(min(CHUNK, count - start))])


async def connect_agent(store: Store) -> None:
    token = await store.tokens.register(AGENT, role=Role.AGENT)
    await store.gateways.renew(GATEWAY, lease_ms=3_600_000, first=True)
    await store.agents.connect(
        Connection(
            agent_id=AGENT,
            conn="c1",
            gateway=GATEWAY,
            token_digest=digest(token),
            name=None,
            status=None,
            capabilities=["code"],
            features=["progress"],
        )
    )


async def script_microseconds(store: Store) -> float:
    """Time that the server has spent in scripts so far."""
    info = await store.blocking.info("commandstats")
    return float(info["cmdstat_evalsha"]["usec"])


async def measure(store: Store, label: str, rounds: int, one: Callable[[], Awaitable[None]]) -> tuple[float, float]:
    """Microseconds in scripts, and median milliseconds on the wall, of one call."""
    for _ in range(50):
        await one()
    walls, costs = [], []
    for _ in range(rounds // BLOCK):
        before = await script_microseconds(store)
        for _ in range(BLOCK):
            started = time.perf_counter()
            await one()
            walls.append(time.perf_counter() - started)
        costs.append((await script_microseconds(store) - before) / BLOCK)
    cost = statistics.median(costs)
    print(f"  {label:<44} scripts {cost:7.1f} us   wall p50 {statistics.median(walls) * 1e3:6.3f} ms")
    return cost, statistics.median(walls) * 1e3


async def round_of_calls(store: Store, rounds: int) -> dict[str, tuple[float, float]]:
    """Submits that wait, submits that are matched at once and worked off, and looks for a task in vain."""

    async def submit_waiting() -> None:
        await store.tasks.submit(new_task("nobody"))

    async def whole_task() -> None:
        submission = await store.tasks.submit(new_task("code"))
        await store.tasks.accept(submission.task_id, AGENT, generation=1)
        await store.tasks.complete(submission.task_id, AGENT, conn="c1", generation=1, result=b"{}", tokens_used=None)

    async def match_in_vain() -> None:
        await store.matching.serve([MatchRequest(entry="", kind="agent", name=AGENT, skip=0)])

    return {
        "submit": await measure(store, "submit, nobody idle for it", rounds, submit_waiting),
        "task": await measure(store, "submit + match, accept, complete", rounds, whole_task),
        "match": await measure(store, "match of an idle agent, nothing for it", rounds, match_in_vain),
    }


async def run(redis: EmbeddedRedis, *, depths: list[int], signatures: int, rounds: int) -> None:
    async with Store(redis.url, Settings(namespace="bench")) as store:
        info = await store.blocking.info("server")
        print_machine(str(info.get("valkey_version") or info["redis_version"]))
        await connect_agent(store)
        baseline: dict[str, tuple[float, float]] = {}
        filled = 0
        steps = [(f"{depth:,} queued", depth, 0) for depth in depths]
        steps.append((f"{depths[-1]:,} queued + {signatures:,} signatures nobody serves", depths[-1], signatures))
        for label, depth, blocked in steps:
            await fill(store, depth - filled, lambda n: ("nobody",) if n % 2 else ("nobody", "else"))
            filled = max(filled, depth)
            await fill(store, blocked, lambda n: ("code", f"skill-{n}"))
            print(label)
            costs = await round_of_calls(store, rounds)
            if not baseline:
                baseline = costs
            ratios = ", ".join(f"{name} x{costs[name][0] / baseline[name][0]:.2f}" for name in costs)
            print(f"  script cost against an empty queue: {ratios}")
        memory = await store.blocking.info("memory")
        print(f"memory of the server: {int(memory['used_memory']) / 2**20:.0f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--depths", default="0,10000,100000,1000000")
    parser.add_argument("--signatures", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=4_000)
    options = parser.parse_args()
    depths = [int(depth) for depth in options.depths.split(",")]
    with tempfile.TemporaryDirectory(prefix="agentcom-bench-") as folder:
        redis = EmbeddedRedis(Path(folder), appendfsync="always")
        redis.start_blocking()
        try:
            asyncio.run(run(redis, depths=depths, signatures=options.signatures, rounds=options.rounds))
        finally:
            redis.stop()


if __name__ == "__main__":
    main()
