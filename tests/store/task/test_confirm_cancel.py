"""task/confirm_cancel: assigned with a cancel asked for -> cancelled, on its agent's word."""

from __future__ import annotations

import json

import pytest

from agentcom.errors import NotCancelling
from agentcom.store.store import Store
from agentcom.store.tasks import Report
from tests.support.builders import ConnectedAgent, a_task
from tests.support.clock import T0, StoreClock
from tests.support.refusals import FRAME_REFUSALS, FrameRefusal, refused
from tests.support.snapshot import GONE, changes
from tests.support.stages import list_score, working


async def cancelling(store: Store) -> ConnectedAgent:
    agent = await working(store)
    await store.tasks.cancel("t1", requester="submitter", privileged=False, reason="not needed")
    return agent


async def confirm(store: Store, agent: ConnectedAgent) -> Report:
    return await store.tasks.confirm_cancel("t1", agent.id, conn=agent.conn, generation=1)


async def test_the_task_is_cancelled_and_the_agent_waits_again(store: Store, clock: StoreClock) -> None:
    agent = await cancelling(store)
    await clock.advance(7)
    assert await changes(store, confirm(store, agent)) == {
        "agent:a1": {"state": "idle", "task": GONE, "generation": GONE, "last_state_change": T0 + 7},
        "due:cancel": {"t1": GONE},
        "due:progress": {"t1": GONE},
        "due:runtime": {"t1": GONE},
        "events": [{"event": "task_cancelled", "task_id": "t1", "agent_id": "a1", "generation": 1}],
        "finished": {"t1": T0 + 7},
        "history:t1": [("cancelled", T0 + 7, "not needed")],
        "idle": {"a1": T0 + 7},
        "status:assigned": {"t1": GONE},
        "status:cancelled": {"t1": list_score(T0)},
        "task:t1": {
            "status": "cancelled",
            "report:1": "cancel:cancelled:a1",
            "updated_at": T0 + 7,
            "finished_at": T0 + 7,
        },
    }


async def test_the_agent_gets_its_next_task(store: Store, clock: StoreClock) -> None:
    agent = await cancelling(store)
    await store.tasks.submit(a_task("t2"))
    report = await confirm(store, agent)
    assert json.loads(report.next_frame or b"")["task_id"] == "t2"


async def test_the_same_report_again_gets_the_same_answer(store: Store, clock: StoreClock) -> None:
    agent = await cancelling(store)
    await confirm(store, agent)
    again: list[Report] = []

    async def call() -> None:
        again.append(await confirm(store, agent))

    assert await changes(store, call()) == {}
    assert again == [Report(outcome="cancelled", repeated=True, next_frame=None)]


async def test_nobody_asked(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    error = await refused(store, confirm(store, agent), NotCancelling)
    assert error.details == {"task_id": "t1"}


@pytest.mark.parametrize("case", FRAME_REFUSALS, ids=str)
async def test_refusals_change_nothing(store: Store, clock: StoreClock, case: FrameRefusal) -> None:
    await case.seed(store)
    call = store.tasks.confirm_cancel(case.task_id, case.agent_id, conn="a1-conn", generation=case.generation)
    error = await refused(store, call, case.error)
    assert error.details == case.details
