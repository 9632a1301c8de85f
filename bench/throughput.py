"""Tasks through the whole hub, submitted over HTTP while agents accept and complete them over WebSockets.

Run: ``python -m bench.throughput [--tasks 2000,10000] [--agents 50] [--submitters 64]``. Everything, the load included,
shares this machine; the processor time of each process is printed beside the rate.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time

import uvloop

from agentcom.settings import Settings
from agentcom.store.store import Store
from bench.clients import BenchAgent, HttpClient, register
from bench.hub import Hub, running_hub
from bench.report import print_machine

STALL_S = 60.0


async def one_run(hub: Hub, agents: list[BenchAgent], clients: list[HttpClient], tasks: int) -> None:
    numbers = iter(range(tasks))
    done_before = sum(agent.completed for agent in agents)
    cpu_before = {**hub.cpu_seconds(), "load": sum(os.times()[:2])}
    started = time.perf_counter()

    async def submit(client: HttpClient) -> None:
        for n in numbers:
            await client.request("POST", "/api/tasks", {"description": f"bench task {n}", "metadata": {"n": n}})

    await asyncio.gather(*[submit(client) for client in clients])
    submitted = time.perf_counter()
    while sum(agent.completed for agent in agents) - done_before < tasks:
        for agent in agents:
            agent.check()
        if time.perf_counter() - submitted > STALL_S:
            raise SystemExit(f"only {sum(agent.completed for agent in agents) - done_before} of {tasks} completed")
        await asyncio.sleep(0.005)
    seconds = time.perf_counter() - started
    cpu = {**hub.cpu_seconds(), "load": sum(os.times()[:2])}
    shares = ", ".join(f"{name} {(cpu[name] - cpu_before[name]) / tasks * 1e6:.0f}" for name in cpu)
    print(f"{tasks:>7,} tasks, {len(agents)} agents: {tasks / seconds:7.0f} tasks/s   processor us a task: {shares}")


async def run(hub: Hub, *, counts: list[int], agents: int, submitters: int) -> None:
    async with Store(hub.redis_url, Settings(namespace="bench")) as store:
        info = await store.blocking.info("server")
        print_machine(str(info.get("valkey_version") or info["redis_version"]))
        clients = [await HttpClient.open(hub, hub.admin_token) for _ in range(submitters)]
        fleet = []
        for n in range(agents):
            fleet.append(BenchAgent(f"agent-{n}", await register(clients[0], f"agent-{n}"), lambda *_: None))
            await fleet[-1].start(hub, ["code"])
        await one_run(hub, fleet, clients, 500)
        for count in counts:
            await one_run(hub, fleet, clients, count)
        counted = await store.tasks.counts()
        if counted.unaccounted:
            raise SystemExit(f"{counted.unaccounted} tasks are nowhere")
        for agent in fleet:
            await agent.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default="2000,10000")
    parser.add_argument("--agents", type=int, default=50)
    parser.add_argument("--submitters", type=int, default=64)
    options = parser.parse_args()
    counts = [int(count) for count in options.tasks.split(",")]
    with running_hub() as hub:
        uvloop.run(run(hub, counts=counts, agents=options.agents, submitters=options.submitters))


if __name__ == "__main__":
    main()
