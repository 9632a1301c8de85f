"""task/cancel: queued or delayed -> cancelled; an assigned task waits for its agent to stop."""

from __future__ import annotations

import pytest

from agentcom.errors import InvalidState, NotSubmitter, TaskNotFound
from agentcom.store.store import Store
from tests.support.builders import a_task, an_agent
from tests.support.clock import T0, StoreClock
from tests.support.refusals import refused
from tests.support.snapshot import GONE, changes
from tests.support.stages import MINUTE, assigned, dead, list_score, working


async def cancel(store: Store, task_id: str = "t1", *, requester: str = "submitter", privileged: bool = False) -> str:
    return await store.tasks.cancel(task_id, requester=requester, privileged=privileged, reason="not needed")


async def test_a_queued_task_is_cancelled_at_once(store: Store, clock: StoreClock) -> None:
    needs = ("gpu", "lua")
    await store.tasks.submit(
        a_task("t1", needed_capabilities=needs, expires_at=T0 + MINUTE, complete_by=T0 + 2 * MINUTE)
    )
    await clock.advance(7)
    assert await changes(store, cancel(store)) == {
        "due:complete_by": {"t1": GONE},
        "due:expires": {"t1": GONE},
        "events": [{"event": "task_cancelled", "task_id": "t1", "agent_id": "", "generation": 0}],
        "finished": {"t1": T0 + 7},
        "history:t1": [("cancelled", T0 + 7, "not needed")],
        "queue:gpu\x1flua": {"t1": GONE},
        "sigs": {"gpu\x1flua": GONE},
        "sigs:gpu": {"gpu\x1flua": GONE},
        "status:cancelled": {"t1": list_score(T0)},
        "status:queued": {"t1": GONE},
        "task:t1": {"status": "cancelled", "updated_at": T0 + 7, "finished_at": T0 + 7},
    }


async def test_a_delayed_task_is_cancelled_at_once(store: Store, clock: StoreClock) -> None:
    await store.tasks.submit(a_task("t1", run_at=T0 + MINUTE, expires_at=T0 + 2 * MINUTE))
    assert await changes(store, cancel(store)) == {
        "due:delayed": {"t1": GONE},
        "due:expires": {"t1": GONE},
        "events": [{"event": "task_cancelled", "task_id": "t1", "agent_id": "", "generation": 0}],
        "finished": {"t1": T0},
        "history:t1": [("cancelled", T0, "not needed")],
        "status:cancelled": {"t1": list_score(T0)},
        "status:delayed": {"t1": GONE},
        "task:t1": {"status": "cancelled", "finished_at": T0},
    }


@pytest.mark.parametrize("accepted", [False, True])
async def test_the_agent_of_an_assigned_task_is_asked_to_stop(store: Store, clock: StoreClock, accepted: bool) -> None:
    await (working if accepted else assigned)(store)
    await clock.advance(7)
    assert await changes(store, cancel(store)) == {
        "due:cancel": {"t1": T0 + 7 + 30_000},
        "events": [{"event": "task_cancel_requested", "task_id": "t1", "agent_id": "a1", "generation": 1}],
        "history:t1": [("cancel_requested", T0 + 7, "not needed")],
        "out:gw": [
            {
                "conn": "a1-conn",
                "kind": "cancel",
                "frame": {"type": "task_cancel", "task_id": "t1", "generation": 1, "reason": "not needed"},
            }
        ],
        "task:t1": {"cancel_requested_at": T0 + 7, "cancel_reason": "not needed", "updated_at": T0 + 7},
    }


async def test_a_disconnected_agent_is_asked_when_it_is_back(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await store.agents.disconnect("a1", conn=agent.conn, reason="closed")
    assert "out:gw" not in await changes(store, cancel(store))
    back = await an_agent(store, "a1", conn="newer", token_digest=agent.token_digest)
    assert back.resumption.cancel_frame is not None
    assert b'"reason":"not needed"' in back.resumption.cancel_frame


async def test_cancelling_twice_is_cancelling_once(store: Store, clock: StoreClock) -> None:
    await working(store)
    await store.tasks.submit(a_task("t2", target_agent="nobody"))
    assert (await cancel(store), await cancel(store, "t2")) == ("cancelling", "cancelled")
    await clock.advance(7)
    answers: list[str] = []

    async def again() -> None:
        answers.extend([await cancel(store), await cancel(store, "t2")])

    assert await changes(store, again()) == {}
    assert answers == ["cancelling", "cancelled"]


async def test_the_privileged_may_cancel_for_others(store: Store, clock: StoreClock) -> None:
    await store.tasks.submit(a_task("t1"))
    assert await cancel(store, requester="operator", privileged=True) == "cancelled"


async def test_others_may_not(store: Store, clock: StoreClock) -> None:
    await store.tasks.submit(a_task("t1"))
    error = await refused(store, cancel(store, requester="somebody"), NotSubmitter)
    assert error.details == {"task_id": "t1"}


async def test_an_unknown_task_is_refused(store: Store, clock: StoreClock) -> None:
    await refused(store, cancel(store, "unknown"), TaskNotFound)


async def test_a_completed_task_is_refused(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await store.tasks.complete("t1", "a1", conn=agent.conn, generation=1, result=b"1", tokens_used=None)
    error = await refused(store, cancel(store), InvalidState)
    assert error.details == {"task_id": "t1", "status": "completed"}


async def test_a_dead_letter_is_refused(store: Store, clock: StoreClock) -> None:
    await dead(store)
    error = await refused(store, cancel(store), InvalidState)
    assert error.details == {"task_id": "t1", "status": "dead_letter"}
