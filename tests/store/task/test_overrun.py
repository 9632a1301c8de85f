"""task/overrun: an attempt that ran past max_runtime_ms counts as failed."""

from __future__ import annotations

from agentcom.store.store import Store
from agentcom.store.tasks import Swept
from tests.support.clock import T0, StoreClock
from tests.support.snapshot import GONE, changes
from tests.support.stages import list_score, working

REASON = "max_runtime: ran longer than 2000 ms"


async def test_the_attempt_failed_and_the_agent_is_asked_to_stop(store: Store, clock: StoreClock) -> None:
    await working(store, max_runtime_ms=2_000)
    await clock.advance(2_000)
    now = T0 + 2_000
    assert await changes(store, store.tasks.overrun(limit=10)) == {
        "agent:a1": {"state": "idle", "task": GONE, "generation": GONE, "last_state_change": now},
        "due:delayed": {"t1": now + 500},
        "due:progress": {"t1": GONE},
        "due:runtime": {"t1": GONE},
        "events": [{"event": "task_retried", "task_id": "t1", "agent_id": "a1", "generation": 1, "reason": REASON}],
        "history:t1": [("retry", now, REASON)],
        "idle": {"a1": now},
        "match": [{"kind": "agent", "name": "a1", "skip": 0}],
        "out:gw": [
            {
                "conn": "a1-conn",
                "kind": "cancel",
                "frame": {"type": "task_cancel", "task_id": "t1", "generation": 1, "reason": "max_runtime"},
            }
        ],
        "status:assigned": {"t1": GONE},
        "status:delayed": {"t1": list_score(T0)},
        "task:t1": {
            "status": "delayed",
            "generation": 2,
            "retry_count": 1,
            "last_error": REASON,
            "assigned_to": GONE,
            "assigned_at": GONE,
            "accepted_at": GONE,
            "updated_at": now,
        },
    }


async def test_progress_does_not_stretch_the_runtime(store: Store, clock: StoreClock) -> None:
    await working(store, max_runtime_ms=2_000)
    await clock.advance(1_999)
    await store.tasks.progress("t1", "a1", generation=1, progress=99)
    assert await changes(store, store.tasks.overrun(limit=10)) == {}
    await clock.advance(1)
    assert await store.tasks.overrun(limit=10) == Swept(1, more=False)


async def test_the_last_attempt_ends_among_the_dead_letters(store: Store, clock: StoreClock) -> None:
    await working(store, max_runtime_ms=2_000, max_retries=1)
    await clock.advance(2_000)
    changed = await changes(store, store.tasks.overrun(limit=10))
    assert changed["status:dead_letter"] == {"t1": list_score(T0)}
    assert changed["task:t1"]["last_error"] == REASON


async def test_a_task_whose_cancel_was_asked_for_is_cancelled(store: Store, clock: StoreClock) -> None:
    await working(store, max_runtime_ms=2_000)
    await store.tasks.cancel("t1", requester="submitter", privileged=False, reason="not needed")
    await clock.advance(2_000)
    changed = await changes(store, store.tasks.overrun(limit=10))
    assert changed["task:t1"]["status"] == "cancelled"
    assert changed["due:cancel"] == {"t1": GONE}


async def test_a_disconnected_agent_is_forgotten(store: Store, clock: StoreClock) -> None:
    agent = await working(store, max_runtime_ms=2_000)
    await store.agents.disconnect("a1", conn=agent.conn, reason="closed")
    await clock.advance(2_000)
    changed = await changes(store, store.tasks.overrun(limit=10))
    assert set(changed["agent:a1"].values()) == {GONE}
    assert "out:gw" not in changed


async def test_a_sweep_is_bounded_and_says_that_more_is_due(store: Store, clock: StoreClock) -> None:
    for number in range(3):
        await working(store, f"t{number}", f"a{number}", max_runtime_ms=2_000)
    await clock.advance(2_000)
    assert await store.tasks.overrun(limit=2) == Swept(2, more=True)
    assert await store.tasks.overrun(limit=2) == Swept(1, more=False)
    assert await changes(store, store.tasks.overrun(limit=2)) == {}
