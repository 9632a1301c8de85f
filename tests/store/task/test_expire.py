"""task/expire: queued, delayed or assigned -> dead_letter for tasks whose time is over."""

from __future__ import annotations

from agentcom.store.store import Store
from agentcom.store.tasks import Swept
from tests.support.builders import a_task
from tests.support.clock import T0, StoreClock
from tests.support.snapshot import GONE, changes
from tests.support.stages import MINUTE, list_score, working

NOW = T0 + MINUTE


async def test_a_task_nobody_took_in_time_expires(store: Store, clock: StoreClock) -> None:
    await store.tasks.submit(a_task("t1", expires_at=NOW, complete_by=NOW + MINUTE, needed_capabilities=("a", "b")))
    await clock.advance(MINUTE)
    assert await changes(store, store.tasks.expire("expires", limit=10)) == {
        "dead": {"t1": NOW},
        "due:complete_by": {"t1": GONE},
        "due:expires": {"t1": GONE},
        "events": [
            {"event": "task_dead_letter", "task_id": "t1", "agent_id": "", "generation": 0, "reason": "expired"}
        ],
        "history:t1": [("dead_letter", NOW, "expired")],
        "queue:a\x1fb": {"t1": GONE},
        "sigs": {"a\x1fb": GONE},
        "sigs:a": {"a\x1fb": GONE},
        "status:dead_letter": {"t1": list_score(T0)},
        "status:queued": {"t1": GONE},
        "task:t1": {"status": "dead_letter", "last_error": "expired", "updated_at": NOW, "finished_at": NOW},
    }


async def test_a_delayed_task_expires_too(store: Store, clock: StoreClock) -> None:
    await store.tasks.submit(a_task("t1", run_at=NOW + MINUTE, expires_at=NOW))
    await clock.advance(MINUTE)
    changed = await changes(store, store.tasks.expire("expires", limit=10))
    assert changed["due:delayed"] == {"t1": GONE}
    assert changed["due:expires"] == {"t1": GONE}
    assert changed["status:delayed"] == {"t1": GONE}
    assert changed["status:dead_letter"] == {"t1": list_score(T0)}


async def test_a_task_being_worked_on_does_not_expire(store: Store, clock: StoreClock) -> None:
    await working(store, expires_at=NOW)
    await clock.advance(MINUTE)
    assert await changes(store, store.tasks.expire("expires", limit=10)) == {}


async def test_an_overdue_task_leaves_the_queue(store: Store, clock: StoreClock) -> None:
    await store.tasks.submit(a_task("t1", complete_by=NOW, expires_at=NOW + MINUTE))
    await clock.advance(MINUTE)
    changed = await changes(store, store.tasks.expire("complete_by", limit=10))
    assert changed["due:complete_by"] == {"t1": GONE}
    assert changed["due:expires"] == {"t1": GONE}
    assert changed["queue:"] == {"t1": GONE}
    assert changed["task:t1"]["last_error"] == "overdue"


async def test_the_agent_of_an_overdue_task_is_asked_to_stop(store: Store, clock: StoreClock) -> None:
    await working(store, complete_by=NOW)
    await clock.advance(MINUTE)
    assert await changes(store, store.tasks.expire("complete_by", limit=10)) == {
        "agent:a1": {"state": "idle", "task": GONE, "generation": GONE, "last_state_change": NOW},
        "dead": {"t1": NOW},
        "due:complete_by": {"t1": GONE},
        "due:progress": {"t1": GONE},
        "due:runtime": {"t1": GONE},
        "events": [
            {"event": "task_dead_letter", "task_id": "t1", "agent_id": "a1", "generation": 1, "reason": "overdue"}
        ],
        "history:t1": [("dead_letter", NOW, "overdue"), ("reclaimed", NOW, "overdue")],
        "idle": {"a1": NOW},
        "match": [{"kind": "agent", "name": "a1", "skip": 0}],
        "out:gw": [
            {
                "conn": "a1-conn",
                "kind": "cancel",
                "frame": {"type": "task_cancel", "task_id": "t1", "generation": 1, "reason": "overdue"},
            }
        ],
        "status:assigned": {"t1": GONE},
        "status:dead_letter": {"t1": list_score(T0)},
        "task:t1": {"status": "dead_letter", "last_error": "overdue", "updated_at": NOW, "finished_at": NOW},
    }


async def test_an_overdue_task_whose_cancel_was_asked_for_is_cancelled(store: Store, clock: StoreClock) -> None:
    await working(store, complete_by=NOW)
    await clock.advance(MINUTE - 1)
    await store.tasks.cancel("t1", requester="submitter", privileged=False, reason="not needed")
    await clock.advance(1)
    changed = await changes(store, store.tasks.expire("complete_by", limit=10))
    assert changed["task:t1"] == {"status": "cancelled", "updated_at": NOW, "finished_at": NOW}
    assert changed["events"] == [{"event": "task_cancelled", "task_id": "t1", "agent_id": "a1", "generation": 1}]
    assert changed["agent:a1"]["state"] == "idle"
    assert "dead" not in changed


async def test_nothing_expires_before_its_time(store: Store, clock: StoreClock) -> None:
    await store.tasks.submit(a_task("t1", expires_at=NOW, complete_by=NOW))
    await clock.advance(MINUTE - 1)
    assert await changes(store, store.tasks.expire("expires", limit=10)) == {}
    assert await changes(store, store.tasks.expire("complete_by", limit=10)) == {}


async def test_a_sweep_is_bounded_and_says_that_more_is_due(store: Store, clock: StoreClock) -> None:
    await store.tasks.submit_many([a_task(expires_at=NOW) for _ in range(3)])
    await clock.advance(MINUTE)
    assert await store.tasks.expire("expires", limit=2) == Swept(2, more=True)
    assert await store.tasks.expire("expires", limit=2) == Swept(1, more=False)
    assert await changes(store, store.tasks.expire("expires", limit=2)) == {}
