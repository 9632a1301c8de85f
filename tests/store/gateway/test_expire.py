"""gateway/expire: agents of gateways whose lease has lapsed are disconnected, a bounded number at a time."""

from __future__ import annotations

from agentcom.store.store import Store
from agentcom.store.tasks import Swept
from tests.support.builders import a_task, an_agent
from tests.support.clock import T0, StoreClock
from tests.support.snapshot import GONE, changes
from tests.support.stages import idle_agent


async def test_its_agents_are_disconnected_and_its_outbox_is_dropped(store: Store, clock: StoreClock) -> None:
    await idle_agent(store, "a1", gateway="lost", lease_ms=1_000)
    await store.tasks.submit(a_task("t1"))
    await idle_agent(store, "a2", gateway="lost", lease_ms=1_000, capabilities=["lua"])
    await clock.advance(1_000)
    now = T0 + 1_000
    changed = await changes(store, store.gateways.expire(limit=10))
    assert set(changed.pop("agent:a2").values()) == {GONE}
    assert sorted(changed.pop("events"), key=lambda event: str(event["agent_id"])) == [
        {"event": "agent_left", "agent_id": "a1", "reason": "gateway_lost", "connected_ms": 1_000},
        {"event": "agent_left", "agent_id": "a2", "reason": "gateway_lost", "connected_ms": 1_000},
    ]
    assert changed == {
        "agent:a1": {"state": "offline", "conn": GONE, "gateway": GONE, "last_state_change": now},
        "agents": {"a1": GONE, "a2": GONE},
        "agents:seen": {"a1": GONE, "a2": GONE},
        "capabilities": {"lua": GONE},
        "due:grace": {"a1": now + 30_000},
        "gateway:lost:agents": {"a1": GONE, "a2": GONE},
        "gateways": {"lost": GONE},
        "idle": {"a2": GONE},
        "idle:lua": {"a2": GONE},
        "out:lost": [GONE],
    }


async def test_a_gateway_that_holds_its_lease_is_left_alone(store: Store, clock: StoreClock) -> None:
    await idle_agent(store, lease_ms=1_000)
    await clock.advance(999)
    assert await changes(store, store.gateways.expire(limit=10)) == {}
    assert await store.gateways.expire(limit=10) == Swept(0, more=False)


async def test_a_crowded_gateway_takes_several_sweeps(store: Store, clock: StoreClock) -> None:
    for number in range(5):
        await idle_agent(store, f"a{number}", gateway="lost", lease_ms=1_000)
    await clock.advance(1_000)
    assert await store.gateways.expire(limit=2) == Swept(2, more=True)
    assert await store.agents.count() == 3
    assert await store.gateways.expire(limit=2) == Swept(2, more=True)
    assert await store.gateways.expire(limit=2) == Swept(1, more=True)
    assert await store.gateways.expire(limit=2) == Swept(0, more=False)
    assert await store.agents.count() == 0


async def test_an_agent_that_moved_on_keeps_its_new_connection(store: Store, clock: StoreClock) -> None:
    agent = await idle_agent(store, "a1", gateway="lost", lease_ms=1_000)
    await an_agent(store, "a1", conn="newer", gateway="alive", token_digest=agent.token_digest)
    await clock.advance(1_000)
    changed = await changes(store, store.gateways.expire(limit=10))
    assert changed == {"gateways": {"lost": GONE}, "out:lost": [GONE]}
    assert (await store.agents.get("a1")).gateway == "alive"
