"""task/promote: delayed -> queued when the time has come."""

from __future__ import annotations

from agentcom.store.store import Store
from agentcom.store.tasks import Swept
from tests.support.builders import a_task, serve_matches
from tests.support.clock import T0, StoreClock
from tests.support.snapshot import GONE, changes
from tests.support.stages import MINUTE, list_score, queue_score, working

NOW = T0 + MINUTE


async def test_a_task_is_queued_at_its_run_at(store: Store, clock: StoreClock) -> None:
    needs = ("a", "b")
    await store.tasks.submit(a_task("t1", run_at=NOW, expires_at=NOW + MINUTE, needed_capabilities=needs))
    await clock.advance(MINUTE)
    assert await changes(store, store.tasks.promote(limit=10)) == {
        "due:delayed": {"t1": GONE},
        "events": [{"event": "task_promoted", "task_id": "t1", "generation": 0}],
        "match": [{"kind": "signature", "name": "a\x1fb", "skip": 0}],
        "queue:a\x1fb": {"t1": queue_score(NOW)},
        "sigs": {"a\x1fb": "a"},
        "sigs:a": {"a\x1fb": queue_score(NOW)},
        "status:delayed": {"t1": GONE},
        "status:queued": {"t1": list_score(T0)},
        "task:t1": {"status": "queued", "updated_at": NOW},
    }


async def test_a_retried_task_goes_back_to_its_old_place(store: Store, clock: StoreClock) -> None:
    agent = await working(store, target_agent="a1")
    await store.tasks.fail("t1", "a1", conn=agent.conn, generation=1, reason="broke")
    await clock.advance(500)
    changed = await changes(store, store.tasks.promote(limit=10))
    assert changed["queue:\x1ea1"] == {"t1": queue_score(T0)}
    assert await serve_matches(store) == 1


async def test_nothing_is_queued_before_its_time(store: Store, clock: StoreClock) -> None:
    await store.tasks.submit(a_task("t1", run_at=NOW))
    await clock.advance(MINUTE - 1)
    assert await changes(store, store.tasks.promote(limit=10)) == {}


async def test_a_sweep_is_bounded_and_says_that_more_is_due(store: Store, clock: StoreClock) -> None:
    await store.tasks.submit_many([a_task(run_at=NOW) for _ in range(3)])
    await clock.advance(MINUTE)
    assert await store.tasks.promote(limit=2) == Swept(2, more=True)
    assert await store.tasks.promote(limit=2) == Swept(1, more=False)
    assert await changes(store, store.tasks.promote(limit=2)) == {}
