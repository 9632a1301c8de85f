"""agent/disconnect: connected -> offline, only for the agent's current connection."""

from __future__ import annotations

import json

from agentcom.domain.agents import AgentState
from agentcom.store.store import Store
from tests.support.builders import an_agent
from tests.support.clock import T0, StoreClock
from tests.support.snapshot import GONE, changes
from tests.support.stages import assigned, idle_agent, working


async def disconnect(store: Store, conn: str = "a1-conn") -> bool:
    return await store.agents.disconnect("a1", conn=conn, reason="closed")


async def test_an_idle_agent_is_forgotten(store: Store, clock: StoreClock) -> None:
    await idle_agent(store, capabilities=["gpu", "lua"])
    await idle_agent(store, "a2", capabilities=["lua"])
    await clock.advance(7)
    changed = await changes(store, disconnect(store))
    assert set(changed.pop("agent:a1").values()) == {GONE}
    assert changed == {
        "agents": {"a1": GONE},
        "agents:seen": {"a1": GONE},
        "capabilities": {"gpu": GONE, "lua": 1},
        "events": [{"event": "agent_left", "agent_id": "a1", "reason": "closed", "connected_ms": 7}],
        "gateway:gw:agents": {"a1": GONE},
        "idle": {"a1": GONE},
        "idle:gpu": {"a1": GONE},
        "idle:lua": {"a1": GONE},
    }


async def test_an_agent_with_a_task_has_a_grace(store: Store, clock: StoreClock) -> None:
    await working(store)
    await clock.advance(7)
    assert await changes(store, disconnect(store)) == {
        "agent:a1": {"state": "offline", "conn": GONE, "gateway": GONE, "last_state_change": T0 + 7},
        "agents": {"a1": GONE},
        "agents:seen": {"a1": GONE},
        "due:grace": {"a1": T0 + 7 + 30_000},
        "events": [{"event": "agent_left", "agent_id": "a1", "reason": "closed", "connected_ms": 7}],
        "gateway:gw:agents": {"a1": GONE},
    }
    agent = await store.agents.get("a1")
    assert (agent.state, agent.current_task_id, agent.gateway) == (AgentState.OFFLINE, "t1", None)


async def test_a_resting_agent_is_forgotten(store: Store, clock: StoreClock) -> None:
    await assigned(store)
    await store.tasks.reject("t1", "a1", generation=1, reason="busy")
    changed = await changes(store, disconnect(store))
    assert set(changed["agent:a1"].values()) == {GONE}
    assert changed["due:unblock"] == {"a1": GONE}


async def test_a_late_close_of_an_older_connection_changes_nothing(store: Store, clock: StoreClock) -> None:
    agent = await idle_agent(store)
    await an_agent(store, "a1", conn="newer", token_digest=agent.token_digest)
    answers: list[bool] = []

    async def call() -> None:
        answers.append(await disconnect(store, agent.conn))

    assert await changes(store, call()) == {}
    assert answers == [False]


async def test_disconnecting_twice_disconnects_once(store: Store, clock: StoreClock) -> None:
    await working(store)
    assert await disconnect(store) is True
    await clock.advance(7)
    assert await changes(store, disconnect(store)) == {}
    assert await disconnect(store) is False


async def test_everybody_is_told(store: Store, clock: StoreClock) -> None:
    await idle_agent(store)
    notices = store.gateways.listen(["presence"])
    assert (await anext(notices)).channel == "subscribed"
    await disconnect(store)
    assert json.loads((await anext(notices)).data) == {"type": "agent_left", "agent_id": "a1"}
    await notices.aclose()  # type: ignore[attr-defined]
