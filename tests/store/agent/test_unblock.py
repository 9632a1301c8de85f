"""agent/unblock: blocked -> idle when the rest after a rejection is over."""

from __future__ import annotations

from agentcom.store.store import Store
from agentcom.store.tasks import Swept
from tests.support.builders import serve_matches
from tests.support.clock import T0, StoreClock
from tests.support.snapshot import GONE, changes
from tests.support.stages import MINUTE, assigned

NOW = T0 + 5_000


async def resting(store: Store, task_id: str = "t1", agent_id: str = "a1") -> None:
    await assigned(store, task_id, agent_id, capabilities=["lua"], target_agent=agent_id)
    await store.tasks.reject(task_id, agent_id, generation=1, reason="busy")


async def test_the_agent_waits_for_work_again(store: Store, clock: StoreClock) -> None:
    await resting(store)
    await clock.advance(5_000)
    assert await changes(store, store.agents.unblock(limit=10)) == {
        "agent:a1": {"state": "idle", "last_state_change": NOW},
        "due:unblock": {"a1": GONE},
        "idle": {"a1": NOW},
        "idle:lua": {"a1": NOW},
        "match": [{"kind": "agent", "name": "a1", "skip": 0}],
    }
    assert await serve_matches(store) == 1


async def test_an_unresponsive_agent_stays_the_last_choice(store: Store, clock: StoreClock) -> None:
    await assigned(store)
    await clock.advance(MINUTE)
    await store.tasks.reclaim("accept", limit=10)
    await serve_matches(store)
    await store.tasks.reject("t1", "a1", generation=3, reason="busy")
    await clock.advance(5_000)
    changed = await changes(store, store.agents.unblock(limit=10))
    assert changed["idle"] == {"a1": NOW + MINUTE + 10**13}


async def test_nobody_is_woken_before_the_time(store: Store, clock: StoreClock) -> None:
    await resting(store)
    await clock.advance(4_999)
    assert await changes(store, store.agents.unblock(limit=10)) == {}


async def test_a_sweep_is_bounded_and_says_that_more_is_due(store: Store, clock: StoreClock) -> None:
    for number in range(3):
        await resting(store, f"t{number}", f"a{number}")
    await clock.advance(5_000)
    assert await store.agents.unblock(limit=2) == Swept(2, more=True)
    assert await store.agents.unblock(limit=2) == Swept(1, more=False)
    assert await changes(store, store.agents.unblock(limit=2)) == {}
