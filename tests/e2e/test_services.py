"""Services that end, Redis that goes away, hubs that start again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.support.agent import SIDECAR, forever
from tests.support.eventually import eventually
from tests.support.hub import START_TIMEOUT_S
from tests.support.scenario import Scenario, hub_of_its_own

pytestmark = pytest.mark.e2e


async def test_every_service_ends_with_0_within_seconds_of_sigterm(tmp_path: Path) -> None:
    async with hub_of_its_own(tmp_path, alerter=1) as scenario:
        hub = scenario.hub
        agents = await scenario.fleet(3, work=forever)
        health = (await scenario.operator.request("GET", "/health")).json()
        assert health["status"] == "ok", health
        for process in list(hub.processes):
            process.terminate()
            assert await process.wait(timeout=8) == 0, process.output()[-2000:]
            assert process.logged("service_stopped")
        # Agents were told that it is the gateway that goes, and that they may come back.
        assert [agent.closes[0] for agent in agents] == [1012] * 3
        for process in hub.processes:
            process.spawn()
        await asyncio.gather(*[process.wait_until_ready() for process in hub.processes])
        await eventually(lambda: all(agent.identified for agent in agents))


async def test_what_one_api_is_told_holds_in_every_process(tmp_path: Path) -> None:
    async with hub_of_its_own(tmp_path, api=2, settings={"rate_light": 6}) as scenario:
        hub, operator = scenario.hub, scenario.operator
        first, second = (process.url for process in hub.of("api"))
        assert (await operator.request("PUT", f"{first}/api/admin/log-level", {"level": "debug"})).status_code == 200
        await eventually(lambda: all(process.logged("log_level_changed") for process in hub.processes))

        statuses = [
            (await operator.request("GET", f"{url}/api/tasks")).status_code for url in (first, second) for _ in range(6)
        ]
        assert statuses[:6] == [200] * 6
        assert 429 in statuses[6:]
        assert (await operator.request("POST", f"{second}/api/admin/reset")).status_code == 200
        assert (await operator.request("GET", f"{first}/api/tasks")).status_code == 200


async def test_the_api_says_that_redis_is_away_and_recovers(tmp_path: Path) -> None:
    async with hub_of_its_own(tmp_path) as scenario:
        hub, operator = scenario.hub, scenario.operator
        agent = await scenario.agent()
        before = await scenario.submit("before")
        await scenario.completed(before)
        hub.redis.kill()
        health, submitted, read = await asyncio.gather(
            operator.request("GET", "/health"),
            operator.request("POST", "/api/tasks", {"description": "meanwhile"}),
            operator.request("GET", f"/api/tasks/{before}"),
        )
        assert health.status_code == 503
        assert health.json()["error"] == "store_unavailable"
        for answer in (submitted, read):
            assert answer.status_code == 503
            assert answer.json()["error"] == "store_unavailable"
            assert answer.json()["message"]
            assert answer.headers["retry-after"]
        await hub.redis.start()

        async def answers() -> bool:
            return (await operator.request("GET", "/health")).status_code == 200

        await eventually(answers)
        assert (await operator.task(before))["status"] == "completed"
        await eventually(lambda: agent.identified)
        await scenario.completed(await scenario.submit("after"))


async def test_tasks_outlive_the_end_of_everything_and_agents_carry_on(tmp_path: Path) -> None:
    """One agent asks to carry on when it is back, one is of the old protocol and just identifies; tasks wait as well.

    With times as long as in production, because starting processes takes longer than those of the tests.
    """
    settings = {"disconnect_grace_ms": 60_000, "progress_timeout_ms": 60_000, "accept_timeout_ms": 2_000}
    async with hub_of_its_own(tmp_path, settings=settings) as scenario:
        hub = scenario.hub
        finish = asyncio.Event()

        async def work(frame: dict) -> dict:
            await finish.wait()
            return {"result": {"generation": frame["generation"]}}

        asking, plain = [await scenario.agent(work=work, features=features) for features in (SIDECAR, None)]
        in_progress = {agent: await scenario.submit(target_agent=agent.id) for agent in (asking, plain)}
        for agent, task_id in in_progress.items():
            await agent.wait_for("task_ack", status="accepted", task_id=task_id)
        waiting = [await scenario.submit(f"task {n}", metadata={"n": n}) for n in range(30)]
        hub.redis.kill()
        for process in hub.processes:
            process.kill()
        await hub.redis.start()
        for process in hub.processes:
            process.spawn()
        await asyncio.gather(*[process.wait_until_ready() for process in hub.processes])
        await eventually(lambda: all(a.identified and a.connections >= 2 for a in in_progress))
        assert (await asking.wait_for("task_continue", task_id=in_progress[asking]))["generation"] == 1
        # An assignment made only now is taken back for want of an answer: the time to accept the older ones is over.
        deaf = await scenario.agent(accepts=False, capabilities=[])
        canary = await scenario.submit(target_agent=deaf.id)
        await eventually(lambda: reclaimed(scenario, canary))
        await scenario.operator.cancel(canary)
        for agent in in_progress:
            assert (await scenario.operator.agent_state(agent.id))["fsm_state"] == "working"
        finish.set()
        for agent, task_id in in_progress.items():
            task = await scenario.completed(task_id)
            assert task["generation"] == 1
            assert task["assigned_to"] == agent.id
            assert agent.runs[task_id] == 1
        done = [await scenario.completed(task_id) for task_id in waiting]
        assert [task["metadata"] for task in done] == [{"n": n} for n in range(30)]
        assert all(task["generation"] == 1 for task in done)


async def reclaimed(scenario: Scenario, task_id: str) -> None:
    history = (await scenario.operator.task(task_id))["history"]
    assert "acceptance_timeout" in [entry["details"] for entry in history if entry["event"] == "reclaimed"]


async def test_a_service_that_starts_before_redis_waits_for_it(tmp_path: Path) -> None:
    async with hub_of_its_own(tmp_path) as scenario:
        hub = scenario.hub
        for process in hub.processes:
            process.kill()
        hub.redis.kill()
        for process in hub.processes:
            process.spawn()
        async with httpx.AsyncClient(trust_env=False) as client:

            async def live() -> bool:
                try:
                    return (await client.get(f"{hub.api_url}/health/live")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(live, timeout=START_TIMEOUT_S)
            assert (await client.get(f"{hub.api_url}/health/ready")).status_code == 503
        await hub.redis.start()
        await asyncio.gather(*[process.wait_until_ready() for process in hub.processes])
        await scenario.agent()
        await scenario.completed(await scenario.submit())
