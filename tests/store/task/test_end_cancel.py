"""task/end_cancel: a cancelled task ends even if its agent never answers."""

from __future__ import annotations

from agentcom.store.store import Store
from agentcom.store.tasks import Swept
from tests.support.clock import T0, StoreClock
from tests.support.snapshot import GONE, changes
from tests.support.stages import list_score, working

NOW = T0 + 30_000


async def cancel(store: Store, task_id: str = "t1") -> None:
    await store.tasks.cancel(task_id, requester="submitter", privileged=False, reason="not needed")


async def test_the_task_ends_and_the_agent_waits_again(store: Store, clock: StoreClock) -> None:
    await working(store)
    await cancel(store)
    await clock.advance(30_000)
    assert await changes(store, store.tasks.end_cancel(limit=10)) == {
        "agent:a1": {"state": "idle", "task": GONE, "generation": GONE, "last_state_change": NOW},
        "due:cancel": {"t1": GONE},
        "due:progress": {"t1": GONE},
        "due:runtime": {"t1": GONE},
        "events": [{"event": "task_cancelled", "task_id": "t1", "agent_id": "a1", "generation": 1}],
        "finished": {"t1": NOW},
        "history:t1": [("cancelled", NOW, "not needed")],
        "idle": {"a1": NOW},
        "match": [{"kind": "agent", "name": "a1", "skip": 0}],
        "status:assigned": {"t1": GONE},
        "status:cancelled": {"t1": list_score(T0)},
        "task:t1": {"status": "cancelled", "updated_at": NOW, "finished_at": NOW},
    }


async def test_the_agent_is_given_its_time(store: Store, clock: StoreClock) -> None:
    await working(store)
    await cancel(store)
    await clock.advance(29_999)
    assert await changes(store, store.tasks.end_cancel(limit=10)) == {}


async def test_a_disconnected_agent_is_forgotten(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await cancel(store)
    await store.agents.disconnect("a1", conn=agent.conn, reason="closed")
    await clock.advance(30_000)
    changed = await changes(store, store.tasks.end_cancel(limit=10))
    assert set(changed["agent:a1"].values()) == {GONE}
    assert changed["due:grace"] == {"a1": GONE}


async def test_a_sweep_is_bounded_and_says_that_more_is_due(store: Store, clock: StoreClock) -> None:
    for number in range(3):
        await working(store, f"t{number}", f"a{number}")
        await cancel(store, f"t{number}")
    await clock.advance(30_000)
    assert await store.tasks.end_cancel(limit=2) == Swept(2, more=True)
    assert await store.tasks.end_cancel(limit=2) == Swept(1, more=False)
    assert await changes(store, store.tasks.end_cancel(limit=2)) == {}
