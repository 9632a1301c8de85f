"""agent/expire: disconnected agents whose grace has passed are forgotten; their tasks go back to the queue."""

from __future__ import annotations

from agentcom.store.store import Store
from agentcom.store.tasks import Swept
from tests.support.clock import T0, StoreClock
from tests.support.snapshot import GONE, changes
from tests.support.stages import list_score, queue_score, working

NOW = T0 + 30_000


async def lost(store: Store, task_id: str = "t1", agent_id: str = "a1", **fields: int) -> None:
    agent = await working(store, task_id, agent_id, **fields)
    await store.agents.disconnect(agent_id, conn=agent.conn, reason="closed")


async def test_the_task_goes_back_and_the_agent_is_forgotten(store: Store, clock: StoreClock) -> None:
    await lost(store)
    await clock.advance(30_000)
    changed = await changes(store, store.agents.expire_grace(limit=10))
    assert set(changed.pop("agent:a1").values()) == {GONE}
    assert changed == {
        "due:grace": {"a1": GONE},
        "due:progress": {"t1": GONE},
        "due:runtime": {"t1": GONE},
        "events": [
            {
                "event": "task_reclaimed",
                "task_id": "t1",
                "agent_id": "a1",
                "generation": 1,
                "reason": "agent_disconnect",
            }
        ],
        "history:t1": [("reclaimed", NOW, "agent_disconnect")],
        "match": [{"kind": "signature", "name": "", "skip": 0}],
        "queue:": {"t1": queue_score(T0)},
        "status:assigned": {"t1": GONE},
        "status:queued": {"t1": list_score(T0)},
        "task:t1": {
            "status": "queued",
            "generation": 2,
            "delivery_count": 1,
            "assigned_to": GONE,
            "assigned_at": GONE,
            "accepted_at": GONE,
            "updated_at": NOW,
        },
    }


async def test_a_task_that_kills_its_agents_ends_among_the_dead_letters(store: Store, clock: StoreClock) -> None:
    await lost(store, max_deliveries=1)
    await clock.advance(30_000)
    changed = await changes(store, store.agents.expire_grace(limit=10))
    assert changed["status:dead_letter"] == {"t1": list_score(T0)}
    assert changed["task:t1"]["last_error"] == "max_deliveries: agent_disconnect"


async def test_a_task_whose_cancel_was_asked_for_is_cancelled(store: Store, clock: StoreClock) -> None:
    await lost(store)
    await store.tasks.cancel("t1", requester="submitter", privileged=False, reason="not needed")
    await clock.advance(30_000)
    changed = await changes(store, store.agents.expire_grace(limit=10))
    assert changed["task:t1"]["status"] == "cancelled"
    assert changed["due:cancel"] == {"t1": GONE}


async def test_nobody_is_forgotten_within_the_grace(store: Store, clock: StoreClock) -> None:
    await lost(store)
    await clock.advance(29_999)
    assert await changes(store, store.agents.expire_grace(limit=10)) == {}


async def test_a_sweep_is_bounded_and_says_that_more_is_due(store: Store, clock: StoreClock) -> None:
    for number in range(3):
        await lost(store, f"t{number}", f"a{number}")
    await clock.advance(30_000)
    assert await store.agents.expire_grace(limit=2) == Swept(2, more=True)
    assert await store.agents.expire_grace(limit=2) == Swept(1, more=False)
    assert await changes(store, store.agents.expire_grace(limit=2)) == {}
