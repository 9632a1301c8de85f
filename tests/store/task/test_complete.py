"""task/complete: assigned -> completed; frees the agent, which gets its next task in the same step."""

from __future__ import annotations

import json

import pytest

from agentcom.errors import InvalidState
from agentcom.store.store import Store
from agentcom.store.tasks import Report
from tests.support.builders import ConnectedAgent, a_task, an_agent
from tests.support.clock import T0, StoreClock
from tests.support.refusals import FRAME_REFUSALS, FrameRefusal, refused
from tests.support.snapshot import GONE, changes
from tests.support.stages import MINUTE, assigned, list_score, working


async def complete(store: Store, agent: ConnectedAgent, *, task_id: str = "t1", generation: int = 1) -> Report:
    return await store.tasks.complete(
        task_id, agent.id, conn=agent.conn, generation=generation, result=b'{"ok": true}', tokens_used=42
    )


async def test_the_task_is_completed_and_the_agent_waits_again(store: Store, clock: StoreClock) -> None:
    agent = await working(store, complete_by=T0 + MINUTE, capabilities=["lua"])
    await clock.advance(7)
    assert await changes(store, complete(store, agent)) == {
        "agent:a1": {"state": "idle", "task": GONE, "generation": GONE, "last_state_change": T0 + 7},
        "due:complete_by": {"t1": GONE},
        "due:progress": {"t1": GONE},
        "due:runtime": {"t1": GONE},
        "events": [
            {
                "event": "task_completed",
                "task_id": "t1",
                "agent_id": "a1",
                "generation": 1,
                "duration_ms": 7,
                "tokens_used": 42,
            }
        ],
        "finished": {"t1": T0 + 7},
        "history:t1": [("completed", T0 + 7, {"tokens_used": 42})],
        "idle": {"a1": T0 + 7},
        "idle:lua": {"a1": T0 + 7},
        "status:assigned": {"t1": GONE},
        "status:completed": {"t1": list_score(T0)},
        "task:t1": {
            "status": "completed",
            "result": '{"ok": true}',
            "tokens_used": 42,
            "report:1": "complete:complete:a1",
            "updated_at": T0 + 7,
            "finished_at": T0 + 7,
        },
    }


async def test_the_next_task_travels_back_in_the_same_step(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await store.tasks.submit(a_task("t2"))
    await clock.advance(7)
    report = Report(outcome="", repeated=True, next_frame=None)

    async def call() -> None:
        nonlocal report
        report = await complete(store, agent)

    changed = await changes(store, call())
    assert (report.outcome, report.repeated) == ("complete", False)
    assert json.loads(report.next_frame or b"") == {
        "type": "task_assign",
        "task_id": "t2",
        "description": "do it",
        "metadata": {},
        "generation": 1,
        "assigned_at": T0 + 7,
        "priority": 2,
    }
    del changed["events"], changed["task:t1"], changed["history:t1"], changed["finished"], changed["status:completed"]
    assert changed == {
        "agent:a1": {"state": "assigned", "task": "t2", "last_state_change": T0 + 7},
        "due:accept": {"t2": T0 + 7 + MINUTE},
        "due:progress": {"t1": GONE},
        "due:runtime": {"t1": GONE},
        "history:t2": [("assigned", T0 + 7, {"agent_id": "a1", "generation": 1})],
        "queue:": {"t2": GONE},
        "status:assigned": {"t1": GONE, "t2": list_score(T0)},
        "status:queued": {"t2": GONE},
        "task:t2": {
            "status": "assigned",
            "assigned_to": "a1",
            "assigned_at": T0 + 7,
            "generation": 1,
            "updated_at": T0 + 7,
        },
    }


async def test_the_same_report_again_gets_the_same_answer(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await store.tasks.submit(a_task("t2"))
    first = await complete(store, agent)
    await clock.advance(7)
    again = Report(outcome="", repeated=False, next_frame=None)

    async def call() -> None:
        nonlocal again
        again = await complete(store, agent)

    assert await changes(store, call()) == {}
    assert again == Report(outcome="complete", repeated=True, next_frame=first.next_frame)


async def test_a_repeated_report_does_not_push_an_accepted_task_again(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await store.tasks.submit(a_task("t2"))
    await complete(store, agent)
    await store.tasks.accept("t2", "a1", generation=1)
    assert (await complete(store, agent)).next_frame is None


async def test_only_the_reporting_connection_hears_of_the_next_task(store: Store, clock: StoreClock) -> None:
    old = await working(store)
    await store.tasks.submit(a_task("t2"))
    await an_agent(store, "a1", conn="newer", token_digest=old.token_digest)
    report = Report(outcome="", repeated=False, next_frame=b"")

    async def call() -> None:
        nonlocal report
        report = await complete(store, old)

    changed = await changes(store, call())
    assert report.next_frame is None
    [push] = changed["out:gw"]
    assert (push["conn"], push["kind"], push["frame"]["task_id"]) == ("newer", "assign", "t2")


async def test_a_report_without_acceptance_counts(store: Store, clock: StoreClock) -> None:
    agent = await assigned(store)
    changed = await changes(store, complete(store, agent))
    assert changed["due:accept"] == {"t1": GONE}
    assert changed["status:completed"] == {"t1": list_score(T0)}
    assert "due:progress" not in changed


async def test_a_disconnected_agent_is_forgotten_with_its_report(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await store.tasks.submit(a_task("t2"))
    await store.agents.disconnect("a1", conn=agent.conn, reason="closed")
    changed = await changes(store, complete(store, agent))
    assert set(changed["agent:a1"].values()) == {GONE}
    assert changed["due:grace"] == {"a1": GONE}
    assert "idle" not in changed
    assert "queue:" not in changed


async def test_an_agent_of_a_dead_gateway_gets_no_next_task(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await store.tasks.submit(a_task("t2"))
    await clock.advance(60 * MINUTE)
    assert (await complete(store, agent)).next_frame is None
    assert (await store.task_reader.get("t2")).status == "queued"


async def test_a_completed_task_wins_over_its_cancel(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await store.tasks.cancel("t1", requester="submitter", privileged=False, reason="not needed")
    changed = await changes(store, complete(store, agent))
    assert changed["due:cancel"] == {"t1": GONE}
    assert changed["task:t1"]["status"] == "completed"


async def test_tokens_used_may_be_left_out(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    call = store.tasks.complete("t1", "a1", conn=agent.conn, generation=1, result=b"null", tokens_used=None)
    changed = await changes(store, call)
    assert "tokens_used" not in changed["task:t1"]
    assert changed["history:t1"] == [("completed", T0, {"tokens_used": None})]


async def test_a_report_of_another_agent_is_no_repetition(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await complete(store, agent)
    call = store.tasks.complete("t1", "a2", conn="a2-conn", generation=1, result=b"1", tokens_used=None)
    with pytest.raises(InvalidState, match="The task is completed"):
        await call


async def test_a_resting_agent_that_reports_is_free(store: Store, clock: StoreClock) -> None:
    agent = await assigned(store, capabilities=["lua"])
    await store.tasks.reject("t1", "a1", generation=1, reason="busy")
    await clock.advance(7)

    async def call() -> None:
        with pytest.raises(InvalidState, match="The task is queued"):
            await complete(store, agent)

    assert await changes(store, call()) == {
        "agent:a1": {"state": "idle", "last_state_change": T0 + 7},
        "due:unblock": {"a1": GONE},
        "idle": {"a1": T0 + 7},
        "idle:lua": {"a1": T0 + 7},
        "match": [{"kind": "agent", "name": "a1", "skip": 0}],
    }


@pytest.mark.parametrize("case", FRAME_REFUSALS, ids=str)
async def test_refusals_change_nothing(store: Store, clock: StoreClock, case: FrameRefusal) -> None:
    await case.seed(store)
    await clock.advance(7)
    call = store.tasks.complete(
        case.task_id, case.agent_id, conn="a1-conn", generation=case.generation, result=b"1", tokens_used=1
    )
    error = await refused(store, call, case.error)
    assert error.details == case.details
