"""task/fail: assigned -> delayed or queued while retries are left, else dead_letter."""

from __future__ import annotations

import pytest

from agentcom.errors import InvalidState
from agentcom.settings import Settings
from agentcom.store.store import Store
from agentcom.store.tasks import Report
from tests.support.builders import ConnectedAgent, a_task, serve_matches
from tests.support.clock import T0, StoreClock
from tests.support.refusals import FRAME_REFUSALS, FrameRefusal, refused
from tests.support.snapshot import GONE, changes
from tests.support.stages import MINUTE, list_score, queue_score, working


async def fail(store: Store, agent: ConnectedAgent, *, generation: int = 1, reason: str = "it broke") -> Report:
    return await store.tasks.fail("t1", agent.id, conn=agent.conn, generation=generation, reason=reason)


async def test_a_failed_attempt_waits_before_the_next(store: Store, clock: StoreClock) -> None:
    agent = await working(store, expires_at=T0 + MINUTE, complete_by=T0 + MINUTE)
    await clock.advance(7)
    assert await changes(store, fail(store, agent)) == {
        "agent:a1": {"state": "idle", "task": GONE, "generation": GONE, "last_state_change": T0 + 7},
        "due:delayed": {"t1": T0 + 7 + 500},
        "due:expires": {"t1": T0 + MINUTE},
        "due:progress": {"t1": GONE},
        "due:runtime": {"t1": GONE},
        "events": [{"event": "task_retried", "task_id": "t1", "agent_id": "a1", "generation": 1, "reason": "it broke"}],
        "history:t1": [("retry", T0 + 7, "it broke")],
        "idle": {"a1": T0 + 7},
        "status:assigned": {"t1": GONE},
        "status:delayed": {"t1": list_score(T0)},
        "task:t1": {
            "status": "delayed",
            "generation": 2,
            "retry_count": 1,
            "last_error": "it broke",
            "report:1": "fail:retried:a1",
            "assigned_to": GONE,
            "assigned_at": GONE,
            "accepted_at": GONE,
            "updated_at": T0 + 7,
        },
    }


async def test_the_last_failure_ends_among_the_dead_letters(store: Store, clock: StoreClock) -> None:
    agent = await working(store, max_retries=1, complete_by=T0 + MINUTE)
    await clock.advance(7)
    assert await changes(store, fail(store, agent)) == {
        "agent:a1": {"state": "idle", "task": GONE, "generation": GONE, "last_state_change": T0 + 7},
        "dead": {"t1": T0 + 7},
        "due:complete_by": {"t1": GONE},
        "due:progress": {"t1": GONE},
        "due:runtime": {"t1": GONE},
        "events": [
            {"event": "task_dead_letter", "task_id": "t1", "agent_id": "a1", "generation": 1, "reason": "it broke"}
        ],
        "history:t1": [("dead_letter", T0 + 7, "it broke")],
        "idle": {"a1": T0 + 7},
        "status:assigned": {"t1": GONE},
        "status:dead_letter": {"t1": list_score(T0)},
        "task:t1": {
            "status": "dead_letter",
            "retry_count": 1,
            "last_error": "it broke",
            "report:1": "fail:dead_letter:a1",
            "updated_at": T0 + 7,
            "finished_at": T0 + 7,
        },
    }


async def test_without_back_off_the_task_is_queued_in_its_old_place(store: Store, clock: StoreClock) -> None:
    agent = await working(store, retry_backoff_ms=0, target_agent="a1")
    await clock.advance(7)
    await store.tasks.submit(a_task("urgent", priority=0, target_agent="a1"))
    changed = await changes(store, fail(store, agent))
    assert changed["queue:\x1ea1"] == {"t1": queue_score(T0), "urgent": GONE}
    assert changed["match"] == [{"kind": "signature", "name": "\x1ea1", "skip": 0}]
    assert changed["task:t1"]["status"] == "queued"
    assert changed["agent:a1"] == {"state": "assigned", "task": "urgent", "last_state_change": T0 + 7}


@pytest.mark.parametrize(("microsecond", "shares"), [(0, 0.5), (500, 0.75), (999, 0.9995)])
@pytest.mark.parametrize(("failures", "full"), [(1, 1_000), (2, 2_000), (3, 4_000), (12, 300_000)])
async def test_the_back_off_doubles_up_to_its_cap_and_is_spread(
    store: Store, clock: StoreClock, microsecond: int, shares: float, failures: int, full: int
) -> None:
    """Between half and all of the full back-off; where in between, the clock's last microseconds decide."""
    agent = await working(store, max_retries=100)
    for attempt in range(1, failures):
        await fail(store, agent, generation=2 * attempt - 1)
        await clock.advance(Settings().retry_backoff_cap_ms)
        await store.tasks.promote(limit=10)
        await serve_matches(store)
    await clock.advance(us=microsecond)
    changed = await changes(store, fail(store, agent, generation=2 * failures - 1))
    delay = changed["due:delayed"]["t1"] - clock.now
    assert delay == int(full * shares)
    assert full / 2 <= delay <= full


async def test_the_same_report_again_gets_the_same_answer(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await fail(store, agent)
    again: list[Report] = []

    async def call() -> None:
        again.append(await fail(store, agent))

    assert await changes(store, call()) == {}
    assert again == [Report(outcome="retried", repeated=True, next_frame=None)]


async def test_a_completion_is_no_repetition_of_a_failure(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await fail(store, agent)
    call = store.tasks.complete("t1", "a1", conn=agent.conn, generation=1, result=b"1", tokens_used=None)
    with pytest.raises(InvalidState, match="The task is delayed"):
        await call


async def test_a_failure_ends_a_task_whose_cancel_was_asked_for(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await store.tasks.cancel("t1", requester="submitter", privileged=False, reason="not needed")
    await clock.advance(7)
    changed = await changes(store, fail(store, agent))
    assert changed["due:cancel"] == {"t1": GONE}
    assert changed["finished"] == {"t1": T0 + 7}
    assert changed["events"] == [{"event": "task_cancelled", "task_id": "t1", "agent_id": "a1", "generation": 1}]
    assert changed["task:t1"] == {
        "status": "cancelled",
        "report:1": "fail:cancelled:a1",
        "updated_at": T0 + 7,
        "finished_at": T0 + 7,
    }


async def test_a_disconnected_agent_is_forgotten_with_its_report(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await store.agents.disconnect("a1", conn=agent.conn, reason="closed")
    changed = await changes(store, fail(store, agent))
    assert set(changed["agent:a1"].values()) == {GONE}
    assert changed["due:grace"] == {"a1": GONE}


@pytest.mark.parametrize("case", FRAME_REFUSALS, ids=str)
async def test_refusals_change_nothing(store: Store, clock: StoreClock, case: FrameRefusal) -> None:
    await case.seed(store)
    await clock.advance(7)
    call = store.tasks.fail(case.task_id, case.agent_id, conn="a1-conn", generation=case.generation, reason="r")
    error = await refused(store, call, case.error)
    assert error.details == case.details
