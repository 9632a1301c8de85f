"""The audit on a real store: silent on a healthy one in every state, and loud about each kind of damage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from agentcom.store.audit import audit, conservation
from agentcom.store.store import Store
from tests.services.hub import Hub, open_hub
from tests.support.builders import a_task, serve_matches

Damage = Callable[[Any, Store], Awaitable[object]]


@pytest.fixture
async def hub(redis_url: str, namespace: str) -> AsyncIterator[Hub]:
    async with open_hub(redis_url, namespace) as hub:
        yield hub


async def populate(hub: Hub) -> None:
    """Tasks and agents in every state that there is."""
    await hub.connect("resting")
    rejected = await hub.submit()
    await hub.store.tasks.reject(rejected, "resting", generation=None, reason="busy")
    await hub.store.tasks.cancel(rejected, requester="op", privileged=True, reason="enough")
    await hub.connect("idle", "code", "docs")
    await hub.connect("holding", "gpu")
    await hub.submit(needed_capabilities=("gpu",), complete_by=2_000_000_000_000)
    await hub.connect("working", "cpu")
    working = await hub.submit(needed_capabilities=("cpu",))
    await hub.store.tasks.accept(working, "working", generation=1)
    await hub.store.tasks.cancel(working, requester="op", privileged=True, reason="enough")
    await hub.connect("gone", "disk")
    kept = await hub.submit(needed_capabilities=("disk",))
    await hub.store.tasks.accept(kept, "gone", generation=1)
    await hub.store.agents.disconnect("gone", conn="gone-conn", reason="test")
    await hub.connect("done", "net")
    for outcome in range(2):
        task_id = await hub.submit(needed_capabilities=("net",), max_retries=1)
        if outcome:
            await hub.store.tasks.fail(task_id, "done", conn="done-conn", generation=1, reason="no")
        else:
            await hub.store.tasks.complete(
                task_id, "done", conn="done-conn", generation=1, result=b"{}", tokens_used=None
            )
    await hub.submit(needed_capabilities=("code", "gpu"), expires_at=2_000_000_000_000)
    await hub.submit(needed_capabilities=("nobody",))
    await hub.submit(target_agent="holding")
    await hub.submit(run_at=2_000_000_000_000, expires_at=2_000_000_100_000)


async def test_a_healthy_store_has_no_findings(hub: Hub) -> None:
    await populate(hub)
    await serve_matches(hub.store)
    assert await audit(hub.store, settle_s=0) == []
    assert await conservation(hub.store) == []
    counts = await hub.store.tasks.counts()
    assert all(counts.total(status) for status in counts.by_status), "a state is missing from this test"


async def _first(redis: Any, key: str) -> str:
    return (await redis.zrange(key, 0, 0))[0].decode()


async def _set_field(redis: Any, store: Store, status: str, field: str, value: str | None) -> None:
    key = store.keys.task(await _first(redis, store.keys.status(status)))
    await (redis.hdel(key, field) if value is None else redis.hset(key, field, value))


async def _delete_first_record(redis: Any, store: Store, status: str) -> None:
    await redis.delete(store.keys.task(await _first(redis, store.keys.status(status))))


async def _copy_first(redis: Any, source: str, target: str) -> None:
    await redis.zadd(target, {await _first(redis, source): 1})


async def _rescore_first(redis: Any, *keys: str) -> None:
    for key in keys:
        if await redis.exists(key):
            await redis.zincrby(key, 5, await _first(redis, key))


async def _request_long_ago(redis: Any, store: Store) -> None:
    await redis.delete(store.keys.match())
    await redis.xadd(store.keys.match(), {"kind": "agent", "name": "x", "skip": 0}, id="1-0")


async def _strand(store: Store) -> None:
    """Takes the idle agent out of the waiting for the moment in which a task for it is queued."""
    redis: Any = store.blocking
    score = await redis.zscore(store.keys.idle("docs"), "idle")
    await redis.zrem(store.keys.idle("docs"), "idle")
    await store.tasks.submit(a_task(needed_capabilities=("docs",)))
    await redis.zadd(store.keys.idle("docs"), {"idle": score})


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a task's record is gone": (
        lambda r, s: _delete_first_record(r, s, "queued"),
        "does not exist but is in",
    ),
    "a task is nowhere": (lambda r, s: r.zpopmin(s.keys.status("delayed")), "1 tasks are nowhere"),
    "a task is in two places": (
        lambda r, s: _copy_first(r, s.keys.status("queued"), s.keys.status("completed")),
        "listed under queued, completed",
    ),
    "a status is another than its place": (
        lambda r, s: _set_field(r, s, "completed", "status", "queued"),
        "is queued but is listed under completed",
    ),
    "a queued task is not in its queue": (lambda r, s: r.zpopmin(s.keys.queue("nobody")), "not in its queue"),
    "a task is in another's queue": (
        lambda r, s: _copy_first(r, s.keys.status("delayed"), s.keys.queue("nobody")),
        "is in queue 'nobody' but does not belong there",
    ),
    "an assigned task has no deadline": (lambda r, s: r.delete(s.keys.due("accept")), "has no accept deadline"),
    "a delayed task is never promoted": (lambda r, s: r.delete(s.keys.due("delayed")), "has no delayed deadline"),
    "a cancelled task keeps a deadline": (
        lambda r, s: _copy_first(r, s.keys.status("cancelled"), s.keys.due("cancel")),
        "is cancelled but has a deadline cancel",
    ),
    "a deadline is at another time": (
        lambda r, s: _rescore_first(r, s.keys.due("complete_by")),
        "has its complete_by deadline at",
    ),
    "a finished task is never pruned": (lambda r, s: r.delete(s.keys.finished()), "not among the finished"),
    "a dead letter is never pruned": (lambda r, s: r.delete(s.keys.dead()), "not among the dead letters"),
    "a generation differs": (
        lambda r, s: r.hset(s.keys.agent("holding"), "generation", 7),
        "is in generation 1, for its agent holding in 7",
    ),
    "an agent lost its task": (lambda r, s: r.hdel(s.keys.agent("holding"), "task"), "which holds no task"),
    "an idle agent holds a task": (
        lambda r, s: r.hset(s.keys.agent("idle"), "task", "task-0000000000000000"),
        "is idle but holds task",
    ),
    "an idle agent is not waiting": (
        lambda r, s: r.zrem(s.keys.idle_any(), "idle"),
        "is idle but is not among the idle",
    ),
    "an idle agent misses a capability": (
        lambda r, s: r.zrem(s.keys.idle("docs"), "idle"),
        "does not wait under docs",
    ),
    "a busy agent waits": (
        lambda r, s: r.zadd(s.keys.idle("gpu"), {"holding": 1}),
        "'holding' is in idle 'gpu' but does not belong there",
    ),
    "a ghost waits": (lambda r, s: r.zadd(s.keys.idle_any(), {"ghost": 1}), "agent ghost has no record"),
    "nobody ends a grace": (lambda r, s: r.delete(s.keys.due("grace")), "not among due:grace"),
    "nobody ends a rest": (lambda r, s: r.delete(s.keys.due("unblock")), "not among due:unblock"),
    "a gateway does not list its agent": (
        lambda r, s: r.srem(s.keys.gateway_agents("gw"), "idle"),
        "which does not list it",
    ),
    "a gateway is forgotten": (lambda r, s: r.delete(s.keys.gateways()), "gateway gw, which is not known"),
    "a gateway lists a stranger": (
        lambda r, s: r.sadd(s.keys.gateway_agents("gw"), "stranger"),
        "'stranger' is in gateway 'gw' but does not belong there",
    ),
    "a capability is miscounted": (
        lambda r, s: r.hincrby(s.keys.capabilities(), "docs", 1),
        "capability 'docs' is counted 2 times, connected agents have it 1",
    ),
    "a queue is not filed": (lambda r, s: r.delete(s.keys.filed()), "is not filed, but it should be"),
    "an empty queue is filed": (
        lambda r, s: r.hset(s.keys.filed(), "x\x1fy", "x"),
        "is filed, but it should not be",
    ),
    "a queue is filed with another score": (
        lambda r, s: _rescore_first(r, s.keys.signatures("code"), s.keys.signatures("gpu")),
        "its head has",
    ),
    "a queue is filed twice": (
        lambda r, s: r.zadd(s.keys.signatures("stale"), {"code\x1fgpu": 1}),
        "is in filed 'stale' but does not belong there",
    ),
    "a history outlived its task": (
        lambda r, s: r.lpush(s.keys.history("task-ffffffffffffffff"), "{}"),
        "has a history and no record",
    ),
    "a queued task waits beside a capable agent": (
        lambda r, s: _strand(s),
        "agent idle is idle although queued tasks wait that it could do",
    ),
    "nobody serves match requests": (
        _request_long_ago,
        "match request 1-0 waits for a scheduler",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
async def test_each_damage_is_found(hub: Hub, name: str) -> None:
    damage, expected = DAMAGES[name]
    await populate(hub)
    await serve_matches(hub.store)
    await damage(hub.store.blocking, hub.store)
    findings = await audit(hub.store, settle_s=0)
    assert any(expected in finding for finding in findings), findings


async def test_more_than_a_page_of_everything(hub: Hub) -> None:
    for number in range(450):
        await hub.connect(f"agent-{number}", "docs")
    await hub.store.tasks.submit_many([a_task(needed_capabilities=("code",)) for _ in range(450)])
    assert await audit(hub.store, settle_s=0) == []
    await hub.store.blocking.zremrangebyrank(hub.store.keys.queue("code"), 300, 309)
    await hub.store.blocking.zremrangebyrank(hub.store.keys.idle("docs"), 300, 304)
    findings = await audit(hub.store, settle_s=0)
    assert sum("not in its queue" in finding for finding in findings) == 10
    assert sum("does not wait under docs" in finding for finding in findings) == 5


async def test_what_is_settled_at_the_second_look_is_not_reported(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    await hub.connect("a", "docs")
    store, redis = hub.store, hub.store.blocking
    score = await redis.zscore(store.keys.idle("docs"), "a")
    await redis.zrem(store.keys.idle("docs"), "a")
    waited: list[float] = []

    async def between_the_looks(seconds: float) -> None:
        waited.append(seconds)
        await redis.zadd(store.keys.idle("docs"), {"a": score})

    monkeypatch.setattr("agentcom.store.audit.asyncio", SimpleNamespace(sleep=between_the_looks))
    assert await audit(store, settle_s=2.0) == []
    assert waited == [2.0], "there was nothing to look at twice"


async def test_a_store_at_work_has_no_findings(hub: Hub) -> None:
    """Scheduler and agents go on while the audit walks: what moves is not a finding."""
    for number in range(8):
        await hub.connect(f"agent-{number}", "code")
    stop = asyncio.Event()
    working = asyncio.gather(*(hub.work(f"agent-{number}", stop) for number in range(8)), hub.keep_submitting(stop))
    try:
        for _ in range(3):
            assert await audit(hub.store, settle_s=0.3) == []
    finally:
        stop.set()
        await working
    assert (await hub.store.tasks.counts()).submitted > 50
