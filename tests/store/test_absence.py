"""The whole hub was away, its store or all of its gateways: no run is taken from an agent before it could come back."""

from __future__ import annotations

import random
from typing import Final

import pytest

from agentcom.domain.agents import AgentState
from agentcom.domain.tasks import TaskStatus
from agentcom.settings import Settings
from agentcom.store.audit import audit
from agentcom.store.store import Store
from services.reaper.sweeps import sweeps
from tests.support.builders import ConnectedAgent, a_task, an_agent, serve_matches
from tests.support.clock import T0, StoreClock
from tests.support.snapshot import changes
from tests.support.stages import MINUTE, assigned, idle_agent, working

HOUR: Final = 60 * MINUTE
LEASE_MS: Final = 10_000
RETURN_MS: Final = 90_000
#: The reaper's order, and orders that two reapers or a long backlog might come to.
ORDERS: Final = ["as it is", "backwards", "mixed"]


async def reap(store: Store, order: str = "as it is") -> None:
    """One turn of the reaper."""
    turn = list(sweeps(store, Settings()))
    if order == "backwards":
        turn.reverse()
    elif order == "mixed":
        random.Random(7).shuffle(turn)
    for sweep in turn:
        await sweep.serve(100)


async def run_of(store: Store, agent_id: str, task_id: str, *, accepted: bool = True) -> ConnectedAgent:
    """An agent with a task, on a gateway that must renew its lease."""
    agent = await idle_agent(store, agent_id, lease_ms=LEASE_MS, capabilities=[agent_id])
    await store.tasks.submit(a_task(task_id, needed_capabilities=(agent_id,), max_runtime_ms=20 * MINUTE))
    if accepted:
        await store.tasks.accept(task_id, agent_id, generation=1)
    return agent


async def come_back(store: Store, agent: ConnectedAgent) -> ConnectedAgent:
    return await an_agent(
        store,
        agent.id,
        conn=f"{agent.id}-again",
        gateway="gw2",
        lease_ms=HOUR,
        capabilities=[agent.id],
        token_digest=agent.token_digest,
    )


async def is_untouched(store: Store, task_id: str) -> bool:
    task = await store.task_reader.get(task_id)
    return (task.status, task.generation, task.delivery_count, task.retry_count) == (TaskStatus.ASSIGNED, 1, 0, 0)


@pytest.mark.parametrize("order", ORDERS)
async def test_after_an_hour_without_the_store_every_agent_may_come_back_and_carry_on(
    store: Store, clock: StoreClock, order: str
) -> None:
    agents = [await run_of(store, f"a{n}", f"t{n}", accepted=n != 2) for n in range(4)]
    await store.agents.disconnect("a3", conn=agents[3].conn, reason="closed")  # its grace had just begun
    await clock.advance(HOUR)
    await reap(store, order)
    await clock.advance(5_000)
    await store.gateways.renew("gw2", lease_ms=HOUR, first=True)
    await clock.advance(RETURN_MS - 10_000)
    await reap(store, order)
    assert [await is_untouched(store, f"t{n}") for n in range(4)] == [True] * 4

    back = [await come_back(store, agent) for agent in agents]
    await reap(store, order)
    assert b'"t2"' in (back[2].resumption.assign_frame or b"")
    for n, agent in enumerate(back):
        report = await store.tasks.complete(
            f"t{n}", agent.id, conn=agent.conn, generation=1, result=b"{}", tokens_used=None
        )
        assert (report.outcome, report.repeated) == ("complete", False)
    assert await audit(store, settle_s=0) == []


@pytest.mark.parametrize("order", ORDERS)
async def test_agents_that_do_not_come_back_lose_their_tasks(store: Store, clock: StoreClock, order: str) -> None:
    await run_of(store, "a1", "t1")
    await run_of(store, "a2", "t2", accepted=False)
    await clock.advance(HOUR)
    await reap(store, order)
    await store.gateways.renew("gw2", lease_ms=HOUR, first=True)
    await clock.advance(RETURN_MS)
    await reap(store, order)
    for task_id in ("t1", "t2"):
        task = await store.task_reader.get(task_id)
        assert (task.status, task.generation) == (TaskStatus.QUEUED, 2) or task.last_error, task
        assert task.delivery_count + task.retry_count == 1
    assert await store.agents.count() == 0
    await serve_matches(store)
    assert await audit(store, settle_s=0) == []


async def test_a_hub_that_was_stopped_for_longer_than_the_grace_keeps_its_runs(store: Store, clock: StoreClock) -> None:
    """A shutdown takes every agent off its connection and gives the lease back."""
    agent = await run_of(store, "a1", "t1")
    await store.agents.disconnect("a1", conn=agent.conn, reason="hub_shutdown")
    await store.gateways.renew("gw", lease_ms=0)
    await clock.advance(10 * MINUTE)
    await reap(store)
    await store.gateways.renew("gw2", lease_ms=HOUR, first=True)
    await clock.advance(MINUTE)
    await reap(store)
    back = await come_back(store, agent)
    assert (await store.agents.get("a1")).state is AgentState.WORKING
    await reap(store)
    assert await is_untouched(store, "t1")
    assert await store.tasks.recover("t1", back.id) == 1


async def test_without_any_gateway_no_run_ends_for_want_of_a_report(store: Store, clock: StoreClock) -> None:
    await run_of(store, "a1", "t1")
    for _ in range(5):
        await clock.advance(10 * MINUTE)
        await reap(store)
    assert await is_untouched(store, "t1")


async def test_what_its_submitter_has_set_an_end_to_ends(store: Store, clock: StoreClock) -> None:
    """A cancel, and times that a submission names, hold whoever was away."""
    await run_of(store, "a1", "t1")
    await store.tasks.cancel("t1", requester="submitter", privileged=False, reason="enough")
    await idle_agent(store, "a2", lease_ms=LEASE_MS)
    await store.tasks.submit(a_task("t2", complete_by=T0 + MINUTE))
    await store.tasks.submit(a_task("t3", needed_capabilities=("nobody",), expires_at=T0 + MINUTE))
    await clock.advance(HOUR)
    await reap(store)
    ended = [(await store.task_reader.get(task_id)).status for task_id in ("t1", "t2", "t3")]
    assert ended == [TaskStatus.CANCELLED, TaskStatus.DEAD_LETTER, TaskStatus.DEAD_LETTER]


async def test_runs_that_began_since_are_nothing_special(store: Store, clock: StoreClock) -> None:
    await store.gateways.renew("gw", lease_ms=HOUR, first=True)
    await clock.advance(1)
    agent = await assigned(store)
    await clock.advance(1)
    await store.agents.disconnect("a1", conn=agent.conn, reason="closed")
    await clock.advance(30_000)
    await reap(store)
    assert (await store.task_reader.get("t1")).status is TaskStatus.QUEUED


async def test_one_gateway_of_two_is_no_absence(store: Store, clock: StoreClock) -> None:
    await store.gateways.renew("other", lease_ms=HOUR, first=True)
    await run_of(store, "a1", "t1")
    await clock.advance(LEASE_MS)
    assert "gateways:since" not in await changes(store, store.gateways.renew("gw2", lease_ms=HOUR, first=True))
    await reap(store)
    await clock.advance(30_000)
    await reap(store)
    assert (await store.task_reader.get("t1")).status is TaskStatus.QUEUED


async def test_nobody_expects_progress_from_an_agent_within_its_grace(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await clock.advance(5 * MINUTE - 1_000)
    changed = await changes(store, store.agents.disconnect("a1", conn=agent.conn, reason="closed"))
    assert changed["due:progress"] == {"t1": clock.now + 30_000}
    await clock.advance(29_999)
    await reap(store)
    assert await is_untouched(store, "t1")
    await clock.advance(1)
    await reap(store)
    task = await store.task_reader.get("t1")
    assert [entry.details for entry in task.history if entry.event == "reclaimed"] == ['"agent_disconnect"']
