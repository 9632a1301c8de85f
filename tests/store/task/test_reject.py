"""task/reject: assigned -> queued at once; the agent rests."""

from __future__ import annotations

import pytest

from agentcom.errors import InvalidState
from agentcom.store.store import Store
from tests.support.builders import serve_matches
from tests.support.clock import T0, StoreClock
from tests.support.refusals import FRAME_REFUSALS, FrameRefusal, refused
from tests.support.snapshot import GONE, changes
from tests.support.stages import MINUTE, assigned, list_score, queue_score, working


async def test_the_task_is_queued_and_the_agent_rests(store: Store, clock: StoreClock) -> None:
    await assigned(store, expires_at=T0 + MINUTE, capabilities=["lua"], needed_capabilities=("lua",))
    await clock.advance(7)
    assert await changes(store, store.tasks.reject("t1", "a1", generation=1, reason="busy")) == {
        "agent:a1": {
            "state": "blocked",
            "task": GONE,
            "generation": GONE,
            "rejections": 1,
            "last_state_change": T0 + 7,
        },
        "due:accept": {"t1": GONE},
        "due:expires": {"t1": T0 + MINUTE},
        "due:unblock": {"a1": T0 + 7 + 5_000},
        "events": [{"event": "task_rejected", "task_id": "t1", "agent_id": "a1", "generation": 1, "reason": "busy"}],
        "history:t1": [("rejected", T0 + 7, "busy")],
        "match": [{"kind": "signature", "name": "lua", "skip": 0}],
        "queue:lua": {"t1": queue_score(T0)},
        "status:assigned": {"t1": GONE},
        "status:queued": {"t1": list_score(T0)},
        "task:t1": {
            "status": "queued",
            "generation": 2,
            "assigned_to": GONE,
            "assigned_at": GONE,
            "updated_at": T0 + 7,
            "answered": 5_000,
        },
    }


async def test_neither_a_retry_nor_a_delivery_is_counted(store: Store, clock: StoreClock) -> None:
    await working(store)
    await store.tasks.reject("t1", "a1", generation=1, reason="busy")
    task = await store.task_reader.get("t1")
    assert (task.retry_count, task.delivery_count) == (0, 0)


async def test_the_rest_doubles_with_each_rejection_in_a_row(store: Store, clock: StoreClock) -> None:
    await assigned(store)
    rests = []
    for turn in range(7):
        rests.append(await store.tasks.reject("t1", "a1", generation=2 * turn + 1, reason="busy"))
        await clock.advance(rests[-1])
        await store.agents.unblock(limit=10)
        await serve_matches(store)
    assert rests == [5_000, 10_000, 20_000, 40_000, 80_000, 120_000, 120_000]


async def test_an_accepted_task_ends_the_row(store: Store, clock: StoreClock) -> None:
    agent = await assigned(store)
    await store.tasks.reject("t1", "a1", generation=1, reason="busy")
    await clock.advance(5_000)
    await store.agents.unblock(limit=10)
    await serve_matches(store)
    await store.tasks.accept("t1", "a1", generation=3)
    await store.tasks.fail("t1", "a1", conn=agent.conn, generation=3, reason="broke")
    await clock.advance(1_000)
    await store.tasks.promote(limit=10)
    await serve_matches(store)
    assert await store.tasks.reject("t1", "a1", generation=5, reason="busy") == 5_000


async def test_a_disconnected_agent_is_forgotten(store: Store, clock: StoreClock) -> None:
    agent = await assigned(store)
    await store.agents.disconnect("a1", conn=agent.conn, reason="closed")
    changed = await changes(store, store.tasks.reject("t1", "a1", generation=1, reason="busy"))
    assert set(changed["agent:a1"].values()) == {GONE}
    assert changed["due:grace"] == {"a1": GONE}
    assert "due:unblock" not in changed


async def test_rejecting_a_task_whose_cancel_was_asked_for_ends_it(store: Store, clock: StoreClock) -> None:
    await assigned(store)
    await store.tasks.cancel("t1", requester="submitter", privileged=False, reason="not needed")
    changed = await changes(store, store.tasks.reject("t1", "a1", generation=1, reason="busy"))
    assert changed["task:t1"] == {"status": "cancelled", "finished_at": T0, "answered": 5_000}
    assert changed["events"] == [{"event": "task_cancelled", "task_id": "t1", "agent_id": "a1", "generation": 1}]
    assert "match" not in changed


async def test_rejecting_twice_rejects_once(store: Store, clock: StoreClock) -> None:
    await assigned(store)
    await store.tasks.reject("t1", "a1", generation=1, reason="busy")
    await refused(store, store.tasks.reject("t1", "a1", generation=1, reason="busy"), InvalidState)


@pytest.mark.parametrize("case", FRAME_REFUSALS, ids=str)
async def test_refusals_change_nothing(store: Store, clock: StoreClock, case: FrameRefusal) -> None:
    await case.seed(store)
    await clock.advance(7)
    call = store.tasks.reject(case.task_id, case.agent_id, generation=case.generation, reason="busy")
    error = await refused(store, call, case.error)
    assert error.details == case.details
