"""Reading agents: one, a page, how many."""

from __future__ import annotations

import pytest

from agentcom.domain.agents import Agent, AgentId, AgentState
from agentcom.errors import AgentNotFound
from agentcom.store.store import Store
from tests.support.builders import an_agent
from tests.support.clock import T0, StoreClock
from tests.support.stages import idle_agent, working


async def test_every_field_is_read(store: Store, clock: StoreClock) -> None:
    await an_agent(store, "a1", capabilities=["lua", "gpu", "lua"], name="One", status="ready")
    await clock.advance(7)
    await store.agents.heartbeat("a1", conn="a1-conn")
    assert await store.agents.get("a1") == Agent(
        id=AgentId("a1"),
        name="One",
        status="ready",
        state=AgentState.IDLE,
        capabilities=("lua", "gpu", "lua"),
        current_task_id=None,
        flags=(),
        connected_at=T0,
        last_seen=T0 + 7,
        last_state_change=T0,
        gateway="gw",
    )


async def test_a_disconnected_agent_is_known_while_it_holds_a_task(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await store.agents.disconnect("a1", conn=agent.conn, reason="closed")
    found = await store.agents.get("a1")
    assert (found.state, found.current_task_id, found.last_seen) == (AgentState.OFFLINE, "t1", None)
    assert await store.agents.count() == 0
    assert (await store.agents.page(cursor=None, limit=10)).agents == []


async def test_an_unknown_agent_is_refused(store: Store) -> None:
    with pytest.raises(AgentNotFound):
        await store.agents.get("unknown")


@pytest.mark.parametrize("limit", [1, 2, 5, 6])
async def test_pages_join_without_gaps_and_repetitions(store: Store, clock: StoreClock, limit: int) -> None:
    for name in ("b", "a", "e", "c", "d"):
        await idle_agent(store, name)
    assert await store.agents.count() == 5
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.agents.page(cursor=cursor, limit=limit)
        assert len(page.agents) <= limit
        seen += [agent.id for agent in page.agents]
        if (cursor := page.cursor) is None:
            break
    assert seen == ["a", "b", "c", "d", "e"]
