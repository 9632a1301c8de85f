"""From POST /api/tasks to task_assign on the agent's socket: one task at a time, and at a steady rate.

Run: ``python -m bench.latency [--tasks 2000] [--rate 50] [--seconds 20]``.
"""

from __future__ import annotations

import argparse
import asyncio
import time

import uvloop

from agentcom.settings import Settings
from agentcom.store.store import Store
from bench.clients import BenchAgent, HttpClient, register
from bench.hub import Hub, running_hub
from bench.report import print_latencies, print_machine

AGENTS = 20


class Arrivals:
    """When each task reached an agent. An assignment may be seen before the answer that tells the task's id."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}
        self._waiting: dict[str, asyncio.Future[float]] = {}

    def arrived(self, task_id: str, at: float) -> None:
        self.at[task_id] = at
        future = self._waiting.pop(task_id, None)
        if future is not None and not future.done():
            future.set_result(at)

    async def wait(self, task_id: str) -> float:
        if task_id in self.at:
            return self.at[task_id]
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting[task_id] = future
        async with asyncio.timeout(30):
            return await future


async def submit_and_wait(client: HttpClient, arrivals: Arrivals) -> float:
    started = time.perf_counter()
    answer = await client.request("POST", "/api/tasks", {"description": "measure the latency of one task"})
    return await arrivals.wait(answer["task_id"]) - started


async def at_rate(client: HttpClient, arrivals: Arrivals, rate: float, seconds: float) -> list[float]:
    loop = asyncio.get_running_loop()
    begin = loop.time()
    pending = []
    for n in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, begin + n / rate - loop.time()))
        pending.append(asyncio.create_task(submit_and_wait(client, arrivals)))
    return list(await asyncio.gather(*pending))


async def run(hub: Hub, *, tasks: int, rate: float, seconds: float) -> None:
    async with Store(hub.redis_url, Settings(namespace="bench")) as store:
        info = await store.blocking.info("server")
        print_machine(str(info.get("valkey_version") or info["redis_version"]))
    client = await HttpClient.open(hub, hub.admin_token)
    arrivals = Arrivals()
    agents = [BenchAgent(f"agent-{n}", await register(client, f"agent-{n}"), arrivals.arrived) for n in range(AGENTS)]
    for agent in agents:
        await agent.start(hub, ["code"])
    await at_rate(client, arrivals, 50, 2)
    print_latencies("one at a time", [await submit_and_wait(client, arrivals) for _ in range(tasks)])
    print_latencies(f"{rate:g} a second", await at_rate(client, arrivals, rate, seconds))
    for agent in agents:
        agent.check()
        await agent.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=2_000)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    with running_hub() as hub:
        uvloop.run(run(hub, tasks=options.tasks, rate=options.rate, seconds=options.seconds))


if __name__ == "__main__":
    main()
