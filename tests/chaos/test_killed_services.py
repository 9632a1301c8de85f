"""SIGKILL and SIGSTOP of services and of Redis, at random moments under load."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path
from typing import Final

import pytest

from agentcom.domain.tasks import TaskEvent
from tests.chaos.chaos import PERSISTENT, busy_hub, everything_completed, kill_and_restart
from tests.support.agent import working_for
from tests.support.eventually import eventually
from tests.support.scenario import hub_of_its_own

pytestmark = pytest.mark.chaos

#: Agents have time to come back, however busy this machine is.
PATIENT: Final = {"disconnect_grace_ms": 60_000, "progress_timeout_ms": 60_000, "accept_timeout_ms": 60_000}


@pytest.mark.parametrize("service", ["api", "ws_gateway", "scheduler", "reaper"])
async def test_sigkill_of_the_only_copy_of_a_service(tmp_path: Path, rng: random.Random, service: str) -> None:
    async with busy_hub(tmp_path, rng=rng) as scenario:
        for _ in range(3):
            await asyncio.sleep(rng.uniform(0, 1))
            await kill_and_restart(scenario.hub.one(service), rng=rng)


async def test_sigkill_of_any_of_several_copies(tmp_path: Path, rng: random.Random) -> None:
    async with busy_hub(tmp_path, rng=rng, ws_gateway=2, scheduler=2, reaper=2) as scenario:
        hub = scenario.hub
        for _ in range(6):
            await asyncio.sleep(rng.uniform(0, 0.5))
            await kill_and_restart(rng.choice(hub.processes), rng=rng, down_s=2)


async def test_sigkill_of_redis_which_starts_again_on_its_file(tmp_path: Path, rng: random.Random) -> None:
    async with busy_hub(tmp_path, rng=rng) as scenario:
        for _ in range(4):
            await asyncio.sleep(rng.uniform(0.2, 1.5))
            scenario.hub.redis.kill()
            await asyncio.sleep(rng.uniform(0, 1))
            await scenario.hub.redis.start()


async def test_sigkill_of_everything_at_once(tmp_path: Path, rng: random.Random) -> None:
    async with busy_hub(tmp_path, rng=rng, ws_gateway=2) as scenario:
        hub = scenario.hub
        for _ in range(2):
            await asyncio.sleep(rng.uniform(0.5, 1.5))
            victims = [*hub.processes]
            rng.shuffle(victims)
            for process in victims:
                process.kill()
            hub.redis.kill()
            await hub.redis.start()
            for process in victims:
                process.spawn()
            await asyncio.gather(*[process.wait_until_ready() for process in victims])


async def test_services_that_stand_still_for_longer_than_their_deadlines(tmp_path: Path, rng: random.Random) -> None:
    """A frozen gateway loses its lease and its agents; thawed, it may not speak for them any more."""
    async with busy_hub(tmp_path, rng=rng, work_s=0.4, per_second=8, ws_gateway=2, scheduler=2, reaper=2) as scenario:
        hub = scenario.hub
        for service in ["ws_gateway", "scheduler", "ws_gateway", "reaper"]:
            victim = rng.choice(hub.of(service))
            victim.freeze()
            await asyncio.sleep(rng.uniform(7.2, 8))  # a lease and a grace
            victim.thaw()
            await asyncio.sleep(rng.uniform(0, 0.5))
        refused = [code for agent in scenario.agents for code in agent.refused.values()]
        print(f"late reports refused: {refused}")


async def test_redis_that_stands_still_for_longer_than_the_leases(tmp_path: Path, rng: random.Random) -> None:
    async with busy_hub(tmp_path, rng=rng) as scenario:
        for _ in range(2):
            pid = scenario.hub.redis.pid
            assert pid
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(rng.uniform(4.5, 6))
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(rng.uniform(0.5, 1))


async def test_a_gateway_is_killed_with_a_hundred_agents_on_it(tmp_path: Path) -> None:
    """They come back on the other one within the grace and go on: nothing is given out a second time."""
    async with hub_of_its_own(tmp_path, ws_gateway=2, settings=PATIENT) as scenario:
        hub = scenario.hub
        release = asyncio.Event()

        async def work(_frame: dict[str, object]) -> dict[str, object]:
            await release.wait()
            return {"result": {}}

        agents = await scenario.fleet(100, first_gateway=0, work=work, progress_s=2.0)
        tasks = [await scenario.submit(f"task {n}", **PERSISTENT) for n in range(150)]
        await eventually(lambda: all(agent.held for agent in agents), timeout=60)
        hub.one("ws_gateway").kill()
        await eventually(lambda: all(agent.connections >= 2 and agent.identified for agent in agents), timeout=60)
        release.set()
        history = await everything_completed(scenario)
        assert all(len(history.of(task_id).of(TaskEvent.ASSIGNED)) == 1 for task_id in tasks)
        assert sum(sum(agent.runs.values()) for agent in agents) == 150
        assert await scenario.store.agents.count() == 100
        await hub.one("ws_gateway").start()


async def test_requests_of_a_killed_scheduler_are_served_by_the_other(tmp_path: Path) -> None:
    """Both share the requests while agents and tasks come in any order; one dies with requests in hand."""
    settings = {"reconcile_interval_ms": 600_000}  # the healing pass must not hide a lost request
    async with hub_of_its_own(tmp_path, scheduler=2, settings=settings) as scenario:
        hub = scenario.hub
        tasks = [await scenario.submit(f"task {n}", **PERSISTENT) for n in range(200)]
        victim, other = hub.of("scheduler")
        other.freeze()  # so that all requests are the victim's
        victim.freeze()
        fleet = [await scenario.make_agent(work=working_for(0.01)) for _ in range(40)]
        await asyncio.gather(*[agent.start() for agent in fleet])
        victim.thaw()
        await eventually(lambda: any(agent.runs for agent in fleet))
        victim.kill()
        other.thaw()
        history = await everything_completed(scenario)
        assert all(len(history.of(task_id).of(TaskEvent.ASSIGNED)) == 1 for task_id in tasks)
        await victim.start()
