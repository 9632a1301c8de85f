"""How fast agents connect and identify, and what an idle one costs the gateway.

Run: ``python -m bench.connects [--agents 1000] [--at-once 100]``.
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
from bench.report import print_machine


async def run(hub: Hub, *, count: int, at_once: int) -> None:
    async with Store(hub.redis_url, Settings(namespace="bench")) as store:
        info = await store.blocking.info("server")
        print_machine(str(info.get("valkey_version") or info["redis_version"]))
    client = await HttpClient.open(hub, hub.admin_token)
    agents = [BenchAgent(f"agent-{n}", await register(client, f"agent-{n}"), lambda *_: None) for n in range(count)]
    before = hub.memory_bytes("ws_gateway")
    waiting = iter(agents)
    started = time.perf_counter()

    async def connect_some() -> None:
        for agent in waiting:
            await agent.start(hub, ["code"])

    await asyncio.gather(*[connect_some() for _ in range(at_once)])
    seconds = time.perf_counter() - started
    await asyncio.sleep(2)
    grown = hub.memory_bytes("ws_gateway") - before
    print(f"{count:,} agents identified in {seconds:.2f} s: {count / seconds:.0f} connects/s, {at_once} at once")
    print(f"gateway memory: {grown / count / 1024:.1f} KiB an idle agent")
    await asyncio.gather(*[agent.stop() for agent in agents])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=1_000)
    parser.add_argument("--at-once", type=int, default=100)
    options = parser.parse_args()
    with running_hub() as hub:
        uvloop.run(run(hub, count=options.agents, at_once=options.at_once))


if __name__ == "__main__":
    main()
