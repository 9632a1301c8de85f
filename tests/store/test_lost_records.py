"""Tasks whose records are gone, as a Redis that evicts keys leaves them: they must not hold up the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from agentcom.domain.agents import AgentState
from agentcom.domain.tasks import TaskStatus
from agentcom.errors import TaskNotFound
from agentcom.store.store import Store
from agentcom.store.tasks import Swept
from tests.support.builders import ConnectedAgent, a_task, an_agent, serve_matches
from tests.support.clock import T0, StoreClock
from tests.support.snapshot import GONE, changes
from tests.support.stages import MINUTE, assigned, dead, working

Reports = dict[str, Callable[[Store, ConnectedAgent], Awaitable[object]]]
REPORTS: Reports = {
    "complete": lambda store, agent: store.tasks.complete(
        "t1", agent.id, conn=agent.conn, generation=1, result=b"1", tokens_used=None
    ),
    "fail": lambda store, agent: store.tasks.fail("t1", agent.id, conn=agent.conn, generation=1, reason="broke"),
    "cancel": lambda store, agent: store.tasks.confirm_cancel("t1", agent.id, conn=agent.conn, generation=1),
}


async def lose(store: Store, *task_ids: str) -> None:
    for task_id in task_ids:
        await store.link.call("DEL", store.keys.task(task_id))


async def status_of(store: Store, task_id: str) -> TaskStatus:
    return (await store.task_reader.get(task_id)).status


@pytest.mark.parametrize("needed", [(), ("lua",), ("lua", "sql")])
async def test_an_agent_that_joins_gets_the_next_task(store: Store, clock: StoreClock, needed: tuple[str, ...]) -> None:
    lost = [f"t{number}" for number in range(100)]
    await store.tasks.submit_many([a_task(name, needed_capabilities=needed) for name in lost])
    await clock.advance(1)
    await store.tasks.submit(a_task("left", needed_capabilities=needed))
    await lose(store, *lost)
    await an_agent(store, capabilities=["lua", "sql"])
    assert await serve_matches(store) == 1
    assert await status_of(store, "left") is TaskStatus.ASSIGNED
    assert await store.link.call("EXISTS", store.keys.status("queued")) == 0


async def test_an_agent_that_reports_gets_the_next_task(store: Store, clock: StoreClock) -> None:
    agent = await working(store, "t0")
    await store.tasks.submit_many([a_task("t1"), a_task("t2")])
    await lose(store, "t1")
    report = await store.tasks.complete("t0", "a1", conn=agent.conn, generation=1, result=b"1", tokens_used=None)
    assert b'"t2"' in (report.next_frame or b"")


async def test_a_queue_whose_turn_has_come_goes_on(store: Store, clock: StoreClock) -> None:
    await working(store, "t0")
    await store.tasks.submit_many([a_task("t1"), a_task("t2"), a_task("t3", run_at=T0 + 1)])
    await lose(store, "t1")
    await an_agent(store, "a2", capabilities=["other"])
    await store.link.call("DEL", store.keys.match())
    await clock.advance(1)
    await store.tasks.promote(limit=10)
    assert await serve_matches(store) == 1
    assert await status_of(store, "t2") is TaskStatus.ASSIGNED


async def test_an_agent_whose_task_is_gone_can_come_back(store: Store, clock: StoreClock) -> None:
    agent = await assigned(store)
    await store.agents.disconnect("a1", conn=agent.conn, reason="closed")
    await lose(store, "t1")
    back = await an_agent(store, "a1", conn="newer", token_digest=agent.token_digest)
    assert back.resumption.assign_frame is None
    assert (await store.agents.get("a1")).state is AgentState.IDLE


@pytest.mark.parametrize("kind", REPORTS)
async def test_an_agent_that_reports_a_lost_task_is_free(store: Store, clock: StoreClock, kind: str) -> None:
    agent = await working(store)
    await lose(store, "t1")
    with pytest.raises(TaskNotFound):
        await REPORTS[kind](store, agent)
    assert (await store.agents.get("a1")).state is AgentState.IDLE
    await store.tasks.submit(a_task("t2"))
    await serve_matches(store)
    assert await status_of(store, "t2") is TaskStatus.ASSIGNED


async def test_an_agent_that_recovers_a_lost_task_is_free(store: Store, clock: StoreClock) -> None:
    await working(store)
    await lose(store, "t1")
    assert await store.tasks.recover("t1", "a1") is None
    assert (await store.agents.get("a1")).state is AgentState.IDLE


async def test_retention_removes_what_is_left_of_them(store: Store, clock: StoreClock) -> None:
    await dead(store, "t1")
    await store.tasks.submit(a_task("t2", target_agent="nobody"))
    await store.tasks.cancel("t2", requester="submitter", privileged=False, reason="no")
    await lose(store, "t1", "t2")
    await clock.advance(60 * 24 * 60 * MINUTE)
    for kind, index, place, name in (
        ("dead", "dead", "status:dead_letter", "t1"),
        ("finished", "finished", "status:cancelled", "t2"),
    ):
        changed = await changes(store, _prune(store, kind))
        assert (changed[index], changed[place]) == ({name: GONE}, {name: GONE})
    assert (await store.tasks.counts()).unaccounted == 0


async def _prune(store: Store, kind: str) -> None:
    assert await store.tasks.prune("dead" if kind == "dead" else "finished", limit=10) == Swept(1, more=False)
