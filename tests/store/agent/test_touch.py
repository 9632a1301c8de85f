"""agent/touch: agents that a gateway has heard from."""

from __future__ import annotations

from agentcom.store.store import Store
from tests.support.clock import T0, StoreClock
from tests.support.snapshot import changes
from tests.support.stages import idle_agent


async def test_connected_agents_were_seen_and_others_are_left_out(store: Store, clock: StoreClock) -> None:
    for name in ("a1", "a2", "a3"):
        await idle_agent(store, name)
    await clock.advance(7)
    assert await changes(store, store.agents.touch(["a1", "a3", "unknown"])) == {
        "agents:seen": {"a1": T0 + 7, "a3": T0 + 7}
    }


async def test_nobody_is_nobody(store: Store, clock: StoreClock) -> None:
    assert await changes(store, store.agents.touch([])) == {}
