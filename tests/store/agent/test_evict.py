"""agent/evict: silent agents are disconnected and their sockets closed."""

from __future__ import annotations

from agentcom.store.store import Store
from agentcom.store.tasks import Swept
from tests.support.clock import T0, StoreClock
from tests.support.snapshot import GONE, changes
from tests.support.stages import MINUTE, idle_agent, working

NOW = T0 + MINUTE
CLOSE = {"conn": "a1-conn", "kind": "close", "code": 4001, "frame": "nothing was heard from this agent"}


async def test_an_idle_agent_is_forgotten(store: Store, clock: StoreClock) -> None:
    await idle_agent(store)
    await clock.advance(MINUTE)
    changed = await changes(store, store.agents.evict(stale_ms=MINUTE, limit=10))
    assert set(changed.pop("agent:a1").values()) == {GONE}
    assert changed == {
        "agents": {"a1": GONE},
        "agents:seen": {"a1": GONE},
        "events": [{"event": "agent_left", "agent_id": "a1", "reason": "stale", "connected_ms": MINUTE}],
        "gateway:gw:agents": {"a1": GONE},
        "idle": {"a1": GONE},
        "out:gw": [CLOSE],
    }


async def test_an_agent_with_a_task_has_a_grace(store: Store, clock: StoreClock) -> None:
    await working(store)
    await clock.advance(MINUTE)
    changed = await changes(store, store.agents.evict(stale_ms=MINUTE, limit=10))
    assert changed["agent:a1"]["state"] == "offline"
    assert changed["due:grace"] == {"a1": NOW + 30_000}
    assert changed["out:gw"] == [CLOSE]
    assert "task:t1" not in changed


async def test_whoever_was_heard_of_stays(store: Store, clock: StoreClock) -> None:
    await idle_agent(store)
    await clock.advance(1)
    await store.agents.touch(["a1"])
    await clock.advance(MINUTE - 1)
    assert await changes(store, store.agents.evict(stale_ms=MINUTE, limit=10)) == {}


async def test_a_sweep_is_bounded_and_says_that_more_is_due(store: Store, clock: StoreClock) -> None:
    for number in range(3):
        await idle_agent(store, f"a{number}")
    await clock.advance(MINUTE)
    assert await store.agents.evict(stale_ms=MINUTE, limit=2) == Swept(2, more=True)
    assert await store.agents.evict(stale_ms=MINUTE, limit=2) == Swept(1, more=False)
    assert await changes(store, store.agents.evict(stale_ms=MINUTE, limit=2)) == {}
