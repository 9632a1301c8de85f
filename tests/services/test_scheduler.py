"""The scheduler on a real store: requests are served, taken over, and made up for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentcom.domain.tasks import TaskStatus
from agentcom.store.audit import audit
from agentcom.store.matching import GROUP
from services.local.redis_server import EmbeddedRedis
from services.scheduler import scheduler_components
from services.scheduler.reconcile import Reconciler
from services.scheduler.requests import RequestClaimer, RequestReader
from tests.services.hub import Hub, open_hub, running, turns
from tests.support.eventually import eventually


@pytest.fixture
async def hub(redis_url: str, namespace: str) -> AsyncIterator[Hub]:
    async with open_hub(redis_url, namespace) as hub:
        yield hub


async def assigned(hub: Hub) -> int:
    return (await hub.store.tasks.counts()).total(TaskStatus.ASSIGNED)


async def pending(hub: Hub) -> int:
    summary: Any = await hub.store.blocking.xpending(hub.store.keys.match(), GROUP)
    return int(summary["pending"])


async def test_an_agent_that_joins_gets_what_waits_for_it(hub: Hub) -> None:
    await hub.submit(needed_capabilities=("code", "gpu"))
    async with running([RequestReader(hub.store.matching, consumer="one")]):
        await hub.connect("a1", "code", "gpu", "docs")
        await eventually(lambda: _is(assigned(hub), 1))
        frames = await hub.pushed()
    assert [frame["type"] for frame in frames] == ["task_assign"]
    assert await pending(hub) == 0
    assert await hub.store.blocking.xlen(hub.store.keys.match()) == 0


async def test_requests_of_a_dead_scheduler_are_taken_over(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    await hub.submit()
    await hub.connect("a1")
    await hub.store.matching.ensure_group()
    assert len(await hub.store.matching.read("dead")) == 1
    monkeypatch.setattr("agentcom.store.matching.CLAIM_IDLE_MS", 50)
    async with running([RequestClaimer(hub.store.matching, consumer="heir", every_s=0.05)]):
        await eventually(lambda: _is(assigned(hub), 1))
    assert await pending(hub) == 0


async def test_reconciling_heals_what_no_request_tells(hub: Hub) -> None:
    for number in range(200):  # more than a page of agents that can do nothing, longer idle than the one that can
        await hub.connect(f"idle-{number}", "docs")
    await hub.submit(needed_capabilities=("code",))
    await hub.connect("able", "code")
    await hub.store.blocking.delete(hub.store.keys.match())
    assert any("agent able is idle although" in finding for finding in await audit(hub.store, settle_s=0))
    async with running([Reconciler(hub.store.matching, interval_ms=50)]):
        await eventually(lambda: _is(assigned(hub), 1))
    assert await audit(hub.store, settle_s=0) == []


async def test_reconciling_passes_many_agents_of_one_millisecond(hub: Hub) -> None:
    for number in range(150):
        await hub.connect(f"idle-{number:03}", "docs")
    await hub.submit(needed_capabilities=("code",))
    await hub.connect("zz-able", "code")
    redis, keys = hub.store.blocking, hub.store.keys
    for key in (keys.idle_any(), keys.idle("docs"), keys.idle("code")):
        members = await redis.zrange(key, 0, -1)
        await redis.zadd(key, dict.fromkeys(members, 1_700_000_000_000))
    await redis.delete(keys.match())
    async with running([Reconciler(hub.store.matching, interval_ms=50)]):
        await eventually(lambda: _is(assigned(hub), 1))


async def test_several_schedulers_share_the_work(hub: Hub) -> None:
    everyone = [
        RequestReader(hub.store.matching, consumer="one"),
        Reconciler(hub.store.matching, interval_ms=20),
    ]
    others = [
        RequestReader(hub.store.matching, consumer="two"),
        Reconciler(hub.store.matching, interval_ms=20),
    ]
    async with running(everyone), running(others):
        for _ in range(60):
            await hub.submit(needed_capabilities=("code",))
        await asyncio.gather(*(hub.connect(f"a{number}", "code") for number in range(60)))
        await eventually(lambda: _is(assigned(hub), 60))
    frames = await hub.pushed()
    assert len({frame["task_id"] for frame in frames}) == 60, "a task was given out twice"
    assert await audit(hub.store, settle_s=0.2) == []


async def _is(number: Any, expected: int) -> None:
    assert await number == expected


async def test_a_request_that_breaks_its_script_keeps_no_other_from_being_served(hub: Hub) -> None:
    await hub.submit(needed_capabilities=("code",))
    redis, keys = hub.store.blocking, hub.store.keys
    await redis.set(keys.queue("broken"), "not a sorted set")
    await redis.xadd(keys.match(), {"kind": "signature", "name": "broken", "skip": 0})
    await hub.connect("a1", "code")
    async with running([RequestReader(hub.store.matching, consumer="one")]) as supervisor:
        await eventually(lambda: _is(assigned(hub), 1))
        assert await pending(hub) == 1
        assert supervisor.health().live


async def test_consumers_of_schedulers_long_gone_are_removed(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    await hub.submit()
    await hub.store.matching.ensure_group()
    redis, keys = hub.store.blocking, hub.store.keys
    await redis.xgroup_createconsumer(keys.match(), GROUP, "gone")
    await hub.connect("a1")
    assert len(await hub.store.matching.read("holding")) == 1
    monkeypatch.setattr("services.scheduler.reconcile._CONSUMER_GONE_MS", 0)

    async def names() -> set[bytes]:
        return {consumer["name"] for consumer in await redis.xinfo_consumers(keys.match(), GROUP)}

    async with running([Reconciler(hub.store.matching, interval_ms=20)]):
        await eventually(lambda: _equals(names(), {b"holding"}))


async def _equals(value: Any, expected: object) -> None:
    assert await value == expected


@pytest.mark.slow
async def test_it_outlasts_a_redis_that_goes_away(tmp_path: Path, namespace: str) -> None:
    server = EmbeddedRedis(tmp_path, port=0)
    await server.start()
    try:
        async with open_hub(server.url, namespace, reconcile_interval_ms=100) as hub:
            components = scheduler_components(hub.store, hub.settings, instance="one")
            async with running(components) as supervisor:
                await supervisor.wait_ready()
                server.kill()
                await turns(next(part for part in components if isinstance(part, RequestReader)), 4)
                assert supervisor.health().live
                await server.start()
                await hub.submit(needed_capabilities=("code",))
                await hub.connect("a1", "code")
                await eventually(lambda: assigned(hub), timeout=20)
                assert supervisor.health().live
                assert all(component.restarts == 0 for component in supervisor.health().components.values())
    finally:
        server.stop()


async def test_a_scheduler_on_an_empty_namespace_is_ready_at_once(hub: Hub) -> None:
    components = scheduler_components(hub.store, hub.settings, instance="one")
    async with running(components) as supervisor, asyncio.timeout(10):
        await supervisor.wait_ready()
    assert await assigned(hub) == 0
