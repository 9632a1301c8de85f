"""A bad network between the services and Redis."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.chaos.chaos import everything_completed, mixed_fleet, random_fields, unrest
from tests.support.hub import HubProcesses
from tests.support.proxy import LossyProxy, lossy_proxy
from tests.support.scenario import QUICK, scenario_on

pytestmark = pytest.mark.chaos


@asynccontextmanager
async def busy_hub_behind_a_proxy(folder: Path, rng: random.Random) -> AsyncIterator[LossyProxy]:
    """A busy hub whose services reach Redis through the proxy."""
    hub = HubProcesses(folder / "hub", settings=QUICK, copies={"api": 1, "ws_gateway": 2, "scheduler": 1, "reaper": 1})
    try:
        await hub.start_redis()
        assert hub.redis.port
        async with lossy_proxy("127.0.0.1", hub.redis.port) as proxy:
            hub.redis_url = f"redis://127.0.0.1:{proxy.port}/0"
            await hub.start()
            async with scenario_on(hub, folder) as scenario:
                await mixed_fleet(scenario, rng=rng, count=8)
                async with (
                    scenario.load(per_second=20, rng=rng, fields=lambda: random_fields(scenario, rng)),
                    unrest(scenario, rng=rng),
                ):
                    await asyncio.sleep(0.5)
                    yield proxy
                await everything_completed(scenario)
    finally:
        hub.stop()


async def test_connections_to_redis_are_cut_again_and_again(tmp_path: Path, rng: random.Random) -> None:
    async with busy_hub_behind_a_proxy(tmp_path, rng) as proxy:
        for _ in range(25):
            await asyncio.sleep(rng.uniform(0, 0.4))
            proxy.cut()


async def test_redis_cannot_be_reached_for_a_while(tmp_path: Path, rng: random.Random) -> None:
    async with busy_hub_behind_a_proxy(tmp_path, rng) as proxy:
        for _ in range(2):
            proxy.refuse()
            proxy.cut()
            await asyncio.sleep(rng.uniform(1, 4))
            proxy.release()
            await asyncio.sleep(rng.uniform(0.5, 1.5))


async def test_packets_to_redis_come_late(tmp_path: Path, rng: random.Random) -> None:
    """Calls that were given up are carried out after all, beside those that were made again."""
    async with busy_hub_behind_a_proxy(tmp_path, rng) as proxy:
        proxy.hold()
        await asyncio.sleep(rng.uniform(11, 13))
        proxy.release()
        await asyncio.sleep(1)
        proxy.delay_s = 0.05
        await asyncio.sleep(2)
        proxy.cut()
        await asyncio.sleep(1)
        proxy.delay_s = 0


async def test_packets_to_redis_are_lost(tmp_path: Path, rng: random.Random) -> None:
    """Connections stay open and nothing passes any more: only their silence tells."""
    async with busy_hub_behind_a_proxy(tmp_path, rng) as proxy:
        proxy.lose()
        await asyncio.sleep(rng.uniform(1, 3))
        proxy.release()
        await asyncio.sleep(11)
