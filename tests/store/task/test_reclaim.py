"""task/reclaim: assigned -> queued for tasks whose accept or progress deadline has come."""

from __future__ import annotations

from agentcom.domain.tasks import TaskStatus
from agentcom.store.store import Store
from agentcom.store.tasks import Swept
from tests.support.builders import an_agent, serve_matches
from tests.support.clock import T0, StoreClock
from tests.support.snapshot import GONE, changes
from tests.support.stages import MINUTE, assigned, list_score, queue_score, working


def cancel_push(reason: str) -> dict[str, object]:
    return {
        "conn": "a1-conn",
        "kind": "cancel",
        "frame": {"type": "task_cancel", "task_id": "t1", "generation": 1, "reason": reason},
    }


async def test_an_assignment_never_accepted_goes_back(store: Store, clock: StoreClock) -> None:
    await assigned(store, capabilities=["lua"], needed_capabilities=("lua",), expires_at=T0 + 9 * MINUTE)
    await clock.advance(MINUTE)
    now = T0 + MINUTE
    assert await changes(store, store.tasks.reclaim("accept", limit=10)) == {
        "agent:a1": {
            "state": "idle",
            "unresponsive": 1,
            "task": GONE,
            "generation": GONE,
            "last_state_change": now,
        },
        "due:accept": {"t1": GONE},
        "due:expires": {"t1": T0 + 9 * MINUTE},
        "events": [
            {
                "event": "task_reclaimed",
                "task_id": "t1",
                "agent_id": "a1",
                "generation": 1,
                "reason": "acceptance_timeout",
            }
        ],
        "history:t1": [("reclaimed", now, "acceptance_timeout")],
        "idle": {"a1": now + 10**13},
        "idle:lua": {"a1": now + 10**13},
        "match": [
            {"kind": "signature", "name": "lua", "skip": 0},
            {"kind": "agent", "name": "a1", "skip": 0},
        ],
        "out:gw": [cancel_push("acceptance_timeout")],
        "queue:lua": {"t1": queue_score(T0)},
        "status:assigned": {"t1": GONE},
        "status:queued": {"t1": list_score(T0)},
        "task:t1": {
            "status": "queued",
            "generation": 2,
            "delivery_count": 1,
            "assigned_to": GONE,
            "assigned_at": GONE,
            "updated_at": now,
        },
    }


async def test_an_agent_without_progress_loses_its_task(store: Store, clock: StoreClock) -> None:
    await working(store)
    await store.tasks.progress("t1", "a1", generation=1, progress=50)
    await clock.advance(5 * MINUTE)
    changed = await changes(store, store.tasks.reclaim("progress", limit=10))
    assert changed["due:progress"] == {"t1": GONE}
    assert changed["due:runtime"] == {"t1": GONE}
    assert changed["out:gw"] == [cancel_push("progress_timeout")]
    assert changed["task:t1"] == {
        "status": "queued",
        "generation": 2,
        "delivery_count": 1,
        "assigned_to": GONE,
        "assigned_at": GONE,
        "accepted_at": GONE,
        "progress": GONE,
        "updated_at": T0 + 5 * MINUTE,
    }


async def test_nothing_is_taken_before_its_time(store: Store, clock: StoreClock) -> None:
    await assigned(store)
    await clock.advance(MINUTE - 1)
    assert await changes(store, store.tasks.reclaim("accept", limit=10)) == {}


async def test_a_second_sweep_finds_nothing(store: Store, clock: StoreClock) -> None:
    await assigned(store)
    await clock.advance(MINUTE)
    assert await store.tasks.reclaim("accept", limit=10) == Swept(1, more=False)
    assert await changes(store, store.tasks.reclaim("accept", limit=10)) == {}


async def test_the_last_lost_delivery_ends_among_the_dead_letters(store: Store, clock: StoreClock) -> None:
    await assigned(store, max_deliveries=1, complete_by=T0 + 9 * MINUTE)
    await clock.advance(MINUTE)
    now = T0 + MINUTE
    changed = await changes(store, store.tasks.reclaim("accept", limit=10))
    event = {"task_id": "t1", "agent_id": "a1", "generation": 1}
    assert changed["events"] == [
        {"event": "task_reclaimed", **event, "reason": "acceptance_timeout"},
        {"event": "task_dead_letter", **event, "reason": "max_deliveries: acceptance_timeout"},
    ]
    assert changed["dead"] == {"t1": now}
    assert changed["due:complete_by"] == {"t1": GONE}
    assert changed["status:dead_letter"] == {"t1": list_score(T0)}
    assert changed["task:t1"] == {
        "status": "dead_letter",
        "delivery_count": 1,
        "last_error": "max_deliveries: acceptance_timeout",
        "updated_at": now,
        "finished_at": now,
    }
    assert changed["match"] == [{"kind": "agent", "name": "a1", "skip": 0}]


async def test_a_task_nobody_ever_accepts_ends_among_the_dead_letters(store: Store, clock: StoreClock) -> None:
    await assigned(store)
    for _ in range(4):
        await clock.advance(MINUTE)
        await store.tasks.reclaim("accept", limit=10)
        assert await serve_matches(store) == 1
    await clock.advance(MINUTE)
    await store.tasks.reclaim("accept", limit=10)
    task = await store.task_reader.get("t1")
    assert (task.status, task.delivery_count, task.retry_count) == (TaskStatus.DEAD_LETTER, 5, 0)


async def test_coming_and_going_does_not_stretch_the_time_to_accept(store: Store, clock: StoreClock) -> None:
    agent = await assigned(store)
    for number in range(3):
        await clock.advance(MINUTE // 4)
        await store.agents.disconnect("a1", conn=f"conn{number - 1}" if number else agent.conn, reason="crashed")
        back = await an_agent(store, "a1", conn=f"conn{number}", token_digest=agent.token_digest)
        assert back.resumption.assign_frame is not None
    await clock.advance(MINUTE // 4)
    assert await store.tasks.reclaim("accept", limit=10) == Swept(1, more=False)


async def test_a_task_whose_cancel_was_asked_for_is_cancelled(store: Store, clock: StoreClock) -> None:
    await assigned(store)
    await clock.advance(MINUTE - 1)
    await store.tasks.cancel("t1", requester="submitter", privileged=False, reason="not needed")
    await clock.advance(1)
    changed = await changes(store, store.tasks.reclaim("accept", limit=10))
    assert changed["task:t1"] == {"status": "cancelled", "updated_at": T0 + MINUTE, "finished_at": T0 + MINUTE}
    assert changed["due:cancel"] == {"t1": GONE}
    assert changed["agent:a1"]["unresponsive"] == 1


async def test_a_disconnected_agent_is_forgotten(store: Store, clock: StoreClock) -> None:
    agent = await assigned(store)
    await store.agents.disconnect("a1", conn=agent.conn, reason="closed")
    await clock.advance(MINUTE)
    changed = await changes(store, store.tasks.reclaim("accept", limit=10))
    assert set(changed["agent:a1"].values()) == {GONE}
    assert changed["due:grace"] == {"a1": GONE}
    assert "out:gw" not in changed
    assert "idle" not in changed


async def test_a_sweep_is_bounded_and_says_that_more_is_due(store: Store, clock: StoreClock) -> None:
    for number in range(3):
        await assigned(store, f"t{number}", f"a{number}")
        await clock.advance(1)
    await clock.advance(MINUTE)
    assert await store.tasks.reclaim("accept", limit=2) == Swept(2, more=True)
    assert (await store.task_reader.get("t2")).status == "assigned"
    assert await store.tasks.reclaim("accept", limit=2) == Swept(1, more=False)


async def test_the_history_keeps_its_newest_fifty_entries(store: Store, clock: StoreClock) -> None:
    await assigned(store, max_deliveries=100)
    for _ in range(26):
        await clock.advance(MINUTE)
        await store.tasks.reclaim("accept", limit=10)
        await serve_matches(store)
    history = (await store.task_reader.get("t1")).history
    assert len(history) == 50
    assert [entry.event for entry in history[:2]] == ["assigned", "reclaimed"]
    assert history[0].timestamp == T0 + 26 * MINUTE
