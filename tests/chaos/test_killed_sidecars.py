"""SIGKILL of real sidecars and of their agents, at random moments under load."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.chaos import PERSISTENT, everything_completed
from tests.support.scenario import hub_of_its_own

pytestmark = pytest.mark.chaos


async def test_sigkill_of_sidecars(tmp_path: Path, rng: random.Random) -> None:
    """The agent beside a killed sidecar works on, and the next sidecar delivers what it did: nothing runs twice."""
    ran = tmp_path / "ran"
    agent = ("sh", "-c", 'echo "$AGENTCOM_TASK_ID" >> "$0"; sleep 0.3; echo done', str(ran))
    async with hub_of_its_own(tmp_path, settings={"disconnect_grace_ms": 30_000}) as scenario:
        sidecars = [await scenario.sidecar(agent) for _ in range(4)]
        async with scenario.load(per_second=8, rng=rng, submitters=2, fields=lambda: dict(PERSISTENT)):
            for _ in range(8):
                await asyncio.sleep(rng.uniform(0, 0.7))
                victim = rng.choice(sidecars)
                await victim.kill()
                await asyncio.sleep(rng.uniform(0, 0.5))
                await victim.start()
        await everything_completed(scenario)
        runs = Counter(ran.read_text().split())
        assert set(runs) == set(scenario.acknowledged)
        assert {task_id: n for task_id, n in runs.items() if n > 1} == {}


async def test_sigkill_of_sidecars_and_of_the_gateway(tmp_path: Path, rng: random.Random) -> None:
    agent = ("sh", "-c", "sleep 0.2; echo done")
    async with hub_of_its_own(tmp_path) as scenario:
        sidecars = [await scenario.sidecar(agent, ping_interval_ms=500, pong_timeout_ms=3_000) for _ in range(3)]
        async with scenario.load(per_second=6, rng=rng, submitters=2, fields=lambda: dict(PERSISTENT)):
            for _ in range(4):
                await asyncio.sleep(rng.uniform(0, 0.5))
                gateway, victim = scenario.hub.one("ws_gateway"), rng.choice(sidecars)
                gateway.kill()
                await victim.kill()
                await victim.start()
                await asyncio.sleep(rng.uniform(0, 0.5))
                await gateway.start()
        await everything_completed(scenario)
