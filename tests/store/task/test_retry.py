"""task/retry: dead_letter -> queued, by hand."""

from __future__ import annotations

from agentcom.errors import InvalidState, TaskNotFound
from agentcom.store.store import Store
from tests.support.builders import a_task
from tests.support.clock import T0, StoreClock
from tests.support.refusals import refused
from tests.support.snapshot import GONE, changes
from tests.support.stages import MINUTE, dead, list_score, queue_score


async def test_counts_start_anew_and_the_place_is_the_old_one(store: Store, clock: StoreClock) -> None:
    await dead(store, priority=1, needed_capabilities=("lua",), capabilities=["lua"])
    await clock.advance(7)
    assert await changes(store, store.tasks.retry("t1")) == {
        "dead": {"t1": GONE},
        "events": [{"event": "task_retried", "task_id": "t1", "agent_id": "", "generation": 1, "reason": "by hand"}],
        "history:t1": [("queued", T0 + 7, "retried from dead-letter")],
        "match": [{"kind": "signature", "name": "lua", "skip": 0}],
        "queue:lua": {"t1": queue_score(T0, priority=1)},
        "status:dead_letter": {"t1": GONE},
        "status:queued": {"t1": list_score(T0, priority=1)},
        "task:t1": {
            "status": "queued",
            "generation": 2,
            "retry_count": 0,
            "last_error": GONE,
            "assigned_to": GONE,
            "assigned_at": GONE,
            "accepted_at": GONE,
            "finished_at": GONE,
            "updated_at": T0 + 7,
            "answered": 1,
        },
    }


async def test_the_reply_is_the_priority(store: Store, clock: StoreClock) -> None:
    await dead(store, priority=1)
    assert await store.tasks.retry("t1") == 1


async def test_lost_deliveries_start_anew(store: Store, clock: StoreClock) -> None:
    await dead(store)
    await store.link.call("HSET", store.keys.task("t1"), "delivery_count", 5)
    await store.tasks.retry("t1")
    assert (await store.task_reader.get("t1")).delivery_count == 0


async def test_deadlines_ahead_count_again(store: Store, clock: StoreClock) -> None:
    await dead(store, expires_at=T0 + MINUTE, complete_by=T0 + 2 * MINUTE)
    changed = await changes(store, store.tasks.retry("t1"))
    assert changed["due:expires"] == {"t1": T0 + MINUTE}
    assert changed["due:complete_by"] == {"t1": T0 + 2 * MINUTE}


async def test_deadlines_missed_are_dropped(store: Store, clock: StoreClock) -> None:
    await dead(store, expires_at=T0 + MINUTE, complete_by=T0 + 2 * MINUTE)
    await clock.advance(2 * MINUTE)
    changed = await changes(store, store.tasks.retry("t1"))
    assert "due:expires" not in changed
    assert "due:complete_by" not in changed
    assert changed["task:t1"]["expires_at"] == GONE
    assert changed["task:t1"]["complete_by"] == GONE


async def test_only_dead_letters_can_be_retried(store: Store, clock: StoreClock) -> None:
    await store.tasks.submit(a_task("t1"))
    error = await refused(store, store.tasks.retry("t1"), InvalidState)
    assert error.details == {"task_id": "t1", "status": "queued"}


async def test_retrying_twice_retries_once(store: Store, clock: StoreClock) -> None:
    await dead(store)
    await store.tasks.retry("t1")
    await refused(store, store.tasks.retry("t1"), InvalidState)


async def test_an_unknown_task_is_refused(store: Store, clock: StoreClock) -> None:
    await refused(store, store.tasks.retry("unknown"), TaskNotFound)
