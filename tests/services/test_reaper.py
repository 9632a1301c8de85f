"""The reaper on a real store: every deadline ends in the right place, once, and the jobs run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from arq.cron import cron

from agentcom.domain.agents import AgentState
from agentcom.domain.tasks import TaskId, TaskStatus
from agentcom.errors import AgentNotFound
from agentcom.settings import DAY, HOUR, MINUTE, SECOND
from agentcom.store.audit import audit
from agentcom.store.jobs import JobQueue
from services.local.redis_server import EmbeddedRedis
from services.reaper.jobs import JobWorker
from services.reaper.retention import retention_cron
from services.reaper.sweeps import Sweeper, sweeps
from services.runtime import Component
from tests.services.hub import Hub, open_hub, running, turns
from tests.support.builders import a_task, serve_matches
from tests.support.eventually import eventually

Arrange = Callable[[Hub], Awaitable[TaskId]]


@pytest.fixture
async def hub(redis_url: str, namespace: str) -> AsyncIterator[Hub]:
    async with open_hub(redis_url, namespace, default_retry_backoff_ms=0, disconnect_grace_ms=30 * SECOND) as hub:
        yield hub


def sweeper(hub: Hub, *, batch: int = 200) -> Component:
    return Sweeper(sweeps(hub.store, hub.settings), interval_ms=20, batch=batch)


async def accepted(hub: Hub, **fields: Any) -> TaskId:
    await hub.connect("a1")
    task_id = await hub.submit(**fields)
    await hub.store.tasks.accept(task_id, "a1", generation=1)
    return task_id


async def unaccepted(hub: Hub) -> TaskId:
    await hub.connect("a1")
    return await hub.submit()


async def soon(hub: Hub) -> int:
    return await hub.store.services.now() + MINUTE


async def left_alone(hub: Hub) -> TaskId:
    task_id = await accepted(hub)
    await hub.store.agents.disconnect("a1", conn="a1-conn", reason="gone")
    return task_id


async def cancelling(hub: Hub) -> TaskId:
    task_id = await accepted(hub)
    await hub.store.tasks.cancel(task_id, requester="op", privileged=True, reason="enough")
    return task_id


async def failed_with_backoff(hub: Hub) -> TaskId:
    task_id = await accepted(hub, retry_backoff_ms=10_000)
    await hub.store.tasks.fail(task_id, "a1", conn="a1-conn", generation=1, reason="no")
    return task_id


async def queued_until(hub: Hub) -> TaskId:
    return await hub.submit(needed_capabilities=("nobody",), expires_at=await soon(hub))


async def due_by(hub: Hub) -> TaskId:
    return await accepted(hub, complete_by=await soon(hub))


async def short_of_time(hub: Hub) -> TaskId:
    return await accepted(hub, max_runtime_ms=10_000)


async def delayed(hub: Hub) -> TaskId:
    return await hub.submit(needed_capabilities=("nobody",), run_at=await soon(hub))


@pytest.mark.parametrize(
    ("arrange", "before", "passed_ms", "after", "event"),
    [
        (unaccepted, TaskStatus.ASSIGNED, 61 * SECOND, TaskStatus.QUEUED, "acceptance_timeout"),
        (accepted, TaskStatus.ASSIGNED, 5 * MINUTE + SECOND, TaskStatus.QUEUED, "progress_timeout"),
        (short_of_time, TaskStatus.ASSIGNED, 11 * SECOND, TaskStatus.QUEUED, "max_runtime"),
        (queued_until, TaskStatus.QUEUED, 61 * SECOND, TaskStatus.DEAD_LETTER, "expired"),
        (due_by, TaskStatus.ASSIGNED, 61 * SECOND, TaskStatus.DEAD_LETTER, "overdue"),
        (cancelling, TaskStatus.ASSIGNED, 31 * SECOND, TaskStatus.CANCELLED, "enough"),
        (left_alone, TaskStatus.ASSIGNED, 31 * SECOND, TaskStatus.QUEUED, "agent_disconnect"),
        (failed_with_backoff, TaskStatus.DELAYED, 11 * SECOND, TaskStatus.QUEUED, "no"),
        (delayed, TaskStatus.DELAYED, 61 * SECOND, TaskStatus.QUEUED, "submitted"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
async def test_each_deadline_is_served_when_it_comes(
    hub: Hub, arrange: Arrange, before: TaskStatus, passed_ms: int, after: TaskStatus, event: str
) -> None:
    task_id = await arrange(hub)
    async with running([sweeper(hub)]) as supervisor:
        await supervisor.wait_ready()
        task = await hub.store.task_reader.get(task_id)
        assert task.status is before, "served before its time"
        await hub.shift_clock(passed_ms)
        await eventually(lambda: status_is(hub, task_id, after))
    task = await hub.store.task_reader.get(task_id)
    assert any(event in entry.details for entry in task.history), task.history
    await serve_matches(hub.store)
    assert await audit(hub.store, settle_s=0) == []


async def status_is(hub: Hub, task_id: TaskId, status: TaskStatus) -> None:
    assert (await hub.store.task_reader.get(task_id)).status is status


async def state_is(hub: Hub, agent_id: str, state: AgentState) -> None:
    assert (await hub.store.agents.get(agent_id)).state is state


async def gone(hub: Hub, agent_id: str) -> bool:
    try:
        await hub.store.agents.get(agent_id)
    except AgentNotFound:
        return True
    return False


async def test_a_resting_agent_waits_again_after_its_cooldown(hub: Hub) -> None:
    await hub.connect("a1")
    task_id = await hub.submit()
    rest_ms = await hub.store.tasks.reject(task_id, "a1", generation=None, reason="busy")
    async with running([sweeper(hub)]):
        await state_is(hub, "a1", AgentState.BLOCKED)
        await hub.shift_clock(rest_ms + 1)
        await eventually(lambda: state_is(hub, "a1", AgentState.IDLE))


async def test_silent_agents_are_disconnected(hub: Hub) -> None:
    await hub.connect("silent")
    await hub.connect("lively")
    await hub.shift_clock(hub.settings.stale_agent_ms)
    await hub.store.agents.touch(["lively"])
    async with running([sweeper(hub)]):
        await eventually(lambda: gone(hub, "silent"))
        await state_is(hub, "lively", AgentState.IDLE)
    closes = await hub.store.blocking.xrange(hub.store.keys.outbox("gw"))
    assert [(fields[b"conn"], fields[b"code"]) for _, fields in closes] == [(b"silent-conn", b"4001")]


async def test_agents_of_a_dead_gateway_are_disconnected(hub: Hub) -> None:
    for number in range(25):
        await hub.connect(f"a{number}", gateway="dying")
    await hub.connect("other", gateway="living")
    await hub.shift_clock(HOUR)
    await hub.store.gateways.renew("living", lease_ms=HOUR, first=True)
    await hub.store.agents.touch([*(f"a{number}" for number in range(25)), "other"])
    async with running([sweeper(hub, batch=10)]):
        await eventually(lambda: gone(hub, "a24"))
        await eventually(lambda: count_is(hub, 1))
    assert await hub.store.blocking.zrange(hub.store.keys.gateways(), 0, -1) == [b"living"]


async def count_is(hub: Hub, expected: int) -> None:
    assert await hub.store.agents.count() == expected


async def test_many_deadlines_are_served_batch_by_batch_and_once_by_two_reapers(hub: Hub) -> None:
    at = await soon(hub)
    await hub.store.tasks.submit_many([a_task(needed_capabilities=("x",), run_at=at) for _ in range(1_200)])
    async with running([sweeper(hub, batch=10)]), running([sweeper(hub, batch=10)]):
        await hub.shift_clock(61 * SECOND)
        await eventually(lambda: total_is(hub, TaskStatus.QUEUED, 1_200))
    events = await hub.store.blocking.xrange(hub.store.keys.events())
    promoted = [fields[b"task_id"] for _, fields in events if fields[b"event"] == b"task_promoted"]
    assert len(promoted) == len(set(promoted)) == 1_200


async def total_is(hub: Hub, status: TaskStatus, expected: int) -> None:
    assert (await hub.store.tasks.counts()).total(status) == expected


async def test_a_sweep_that_redis_refuses_keeps_no_other_from_running(hub: Hub) -> None:
    task_id = await delayed(hub)
    await hub.store.blocking.set(hub.store.keys.due("grace"), "not a sorted set")
    async with running([sweeper(hub)]) as supervisor:
        await hub.shift_clock(61 * SECOND)
        await eventually(lambda: status_is(hub, task_id, TaskStatus.QUEUED))
        assert supervisor.health().components["reaper.sweeps"].restarts == 0


# -- jobs ------------------------------------------------------------------------------------------------------------


async def test_retention_removes_what_is_too_old_or_too_many(redis_url: str, namespace: str) -> None:
    async with open_hub(redis_url, namespace, finished_max_count=5, dead_max_age_ms=DAY) as hub:
        for _ in range(30):
            task_id = await hub.submit()
            await hub.store.tasks.cancel(task_id, requester="op", privileged=True, reason="")
        await hub.connect("a1")
        buried = await hub.submit(max_retries=1)
        await hub.store.tasks.fail(buried, "a1", conn="a1-conn", generation=1, reason="no")
        job = retention_cron(JobQueue(redis_url, namespace=namespace), hub.store.tasks, batch=10)
        await job.coroutine({})
        counts = await hub.store.tasks.counts()
        assert (counts.total(TaskStatus.CANCELLED), counts.total(TaskStatus.DEAD_LETTER)) == (5, 1)
        await hub.shift_clock(2 * DAY)
        await job.coroutine({})
        counts = await hub.store.tasks.counts()
        assert (counts.total(TaskStatus.CANCELLED), counts.total(TaskStatus.DEAD_LETTER)) == (5, 0)
        assert counts.unaccounted == 0


async def test_two_workers_run_each_job_once_and_keep_to_json_and_the_namespace(redis_url: str, hub: Hub) -> None:
    queue = JobQueue(redis_url, namespace=hub.settings.namespace)
    runs: list[str] = []
    stored: list[bytes] = []

    async def tick(ctx: dict[Any, Any], *_: Any, **__: Any) -> None:
        runs.append(ctx["job_id"])
        stored.append(await hub.store.blocking.get(f"arq:job:{ctx['job_id']}"))

    every_second = cron(tick, name=queue.job_name("tick"), second=set(range(60)), timeout=5)
    async with running([JobWorker(queue, crons=[every_second])]), running([JobWorker(queue, crons=[every_second])]):
        await eventually(lambda: len(runs) >= 3)
        assert await hub.store.blocking.exists(f"{queue.name}:health")
    assert len(runs) == len(set(runs))
    assert all(job_id.startswith(f"ac:{{{hub.settings.namespace}}}:jobs:tick:") for job_id in runs)
    assert all(job.startswith(b"{") for job in stored)


@pytest.mark.slow
async def test_jobs_go_on_after_their_redis_was_away(tmp_path: Path, namespace: str) -> None:
    server = EmbeddedRedis(tmp_path, port=0)
    await server.start()
    queue = JobQueue(server.url, namespace=namespace)
    runs: list[str] = []

    async def tick(ctx: dict[Any, Any], *_: Any, **__: Any) -> None:
        runs.append(ctx["job_id"])

    every_second = cron(tick, name=queue.job_name("tick"), second=set(range(60)), timeout=5)
    try:
        worker = JobWorker(queue, crons=[every_second])
        async with running([worker]) as supervisor:
            await eventually(lambda: len(runs) >= 1)
            server.kill()
            await turns(worker, 3)
            before = len(runs)
            await server.start()
            await eventually(lambda: len(runs) > before, timeout=30)
            health = supervisor.health()
            assert health.live
            assert health.components["reaper.jobs"].restarts == 0
    finally:
        server.stop()
