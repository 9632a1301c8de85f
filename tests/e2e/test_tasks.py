"""Tasks from submission to their end, over HTTP and WebSocket, through real processes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from statistics import mean

import pytest

from agentcom.domain.tasks import TaskEvent
from tests.support.agent import WorkFailed, forever, working_for
from tests.support.eventually import eventually
from tests.support.scenario import Scenario

pytestmark = pytest.mark.e2e


async def test_a_task_goes_through_the_whole_protocol(scenario: Scenario) -> None:
    result = {"text": "größer ≠ 大", "nested": {"list": [1, 2.5, None, True]}, "empty": {}}

    async def work(_frame: dict) -> dict:
        return {"result": result, "tokens_used": 42}

    agent = await scenario.agent(work=work)
    identified = agent.received("identified")[0]
    assert identified["agent_id"] == agent.id
    assert identified["protocol_version"] == 1

    task_id = await scenario.submit("say it", metadata={"repo": "https://example.test/r.git"}, priority="high")
    task = await scenario.completed(task_id)

    assert task["result"] == result
    assert task["tokens_used"] == 42
    assert task["assigned_to"] == agent.id
    assert task["generation"] == 1
    (assign,) = agent.received("task_assign")
    assert assign["task_id"] == task_id
    assert assign["description"] == "say it"
    assert assign["metadata"] == {"repo": "https://example.test/r.git"}
    assert assign["generation"] == 1
    await agent.wait_for("task_ack", status="complete", task_id=task_id, generation=1)
    assert [frame["status"] for frame in agent.received("task_ack")] == ["accepted", "complete"]
    assert [entry["event"] for entry in task["history"]] == ["completed", "assigned", "queued"]
    assert (await scenario.operator.agent_state(agent.id))["fsm_state"] == "idle"
    life = (await scenario.history()).of(task_id)
    assert life.kinds() == [TaskEvent.SUBMITTED, TaskEvent.ASSIGNED, TaskEvent.ACCEPTED, TaskEvent.COMPLETED]


async def test_ten_tasks_on_two_agents(scenario: Scenario) -> None:
    agents = await scenario.fleet(2, work=working_for(0.02))
    tasks = [await scenario.submit(f"task {n}") for n in range(10)]
    done = [await scenario.completed(task_id) for task_id in tasks]
    assert all(task["assigned_at"] - task["created_at"] < 5_000 for task in done)
    shares = Counter(task["assigned_to"] for task in done)
    assert set(shares) == {agent.id for agent in agents}


async def test_twenty_tasks_of_mixed_priority_on_four_agents(scenario: Scenario) -> None:
    priorities = ["low", "normal", "high", "urgent"] * 5
    tasks = [await scenario.submit(f"task {n}", priority=priority) for n, priority in enumerate(priorities)]
    await scenario.fleet(4, work=working_for(0.15))
    done = [await scenario.completed(task_id) for task_id in tasks]
    shares = Counter(task["assigned_to"] for task in done)
    assert len(shares) == 4
    assert all(3 <= share <= 7 for share in shares.values()), shares
    by_priority = {n: [task["assigned_at"] for task in done if task["priority"] == n] for n in range(4)}
    means = [mean(by_priority[n]) for n in range(4)]
    assert means == sorted(means)


async def test_failures_are_retried_and_then_dead(scenario: Scenario) -> None:
    async def work(frame: dict) -> dict:
        raise WorkFailed(f"no luck in generation {frame['generation']}")

    agent = await scenario.agent(work=work)
    task_id = await scenario.submit(max_retries=2)
    task = await scenario.operator.wait_for(task_id, "dead_letter")
    assert task["retry_count"] == 2
    await agent.wait_for("task_ack", status="dead_letter", task_id=task_id)
    assert [frame["status"] for frame in agent.received("task_ack", task_id=task_id)] == [
        "accepted",
        "retried",
        "accepted",
        "dead_letter",
    ]
    first, second = (frame["generation"] for frame in agent.received("task_assign"))
    assert first < second
    assert task["last_error"] == f"no luck in generation {second}"


async def test_a_dead_letter_is_retried_by_hand(scenario: Scenario) -> None:
    async def work(frame: dict) -> dict:
        if frame["generation"] == 1:
            raise WorkFailed("not yet")
        return {"result": {"done": True}}

    await scenario.agent(work=work)
    task_id = await scenario.submit(max_retries=1)
    await scenario.operator.wait_for(task_id, "dead_letter")
    await scenario.operator.retry(task_id)
    task = await scenario.completed(task_id)
    assert task["retry_count"] == 0
    assert task["last_error"] is None
    assert task["generation"] > 1


async def test_an_assignment_that_is_not_accepted_is_taken_back(scenario: Scenario) -> None:
    deaf = await scenario.agent(accepts=False)
    task_id = await scenario.submit()
    await deaf.wait_for("task_assign", task_id=task_id)
    taker = await scenario.agent()
    task = await scenario.completed(task_id)
    assert task["assigned_to"] == taker.id
    assert task["generation"] > 1
    reclaimed = [entry for entry in task["history"] if entry["event"] == "reclaimed"]
    assert [entry["details"] for entry in reclaimed] == ["acceptance_timeout"]
    state = await scenario.operator.agent_state(deaf.id)
    assert state["fsm_state"] == "idle"
    assert state["flags"] == ["unresponsive"]


async def test_accepting_another_task_does_not_accept_the_assigned_one(scenario: Scenario) -> None:
    agent = await scenario.agent(accepts=False)
    task_id = await scenario.submit()
    await agent.wait_for("task_assign", task_id=task_id)
    await agent.send({"type": "task_accepted", "task_id": "task-0000000000000000"})
    await agent.wait_for("error", task_id="task-0000000000000000", code="not_found")
    assert (await scenario.operator.agent_state(agent.id))["fsm_state"] == "assigned"
    await scenario.operator.cancel(task_id)
    await scenario.operator.wait_for(task_id, "cancelled")


async def test_a_working_agent_that_says_nothing_loses_its_task(scenario: Scenario) -> None:
    silent = await scenario.agent(work=forever, progress_s=3600)
    task_id = await scenario.submit()
    await silent.wait_for("task_ack", status="accepted", task_id=task_id)
    taker = await scenario.agent()
    task = await scenario.completed(task_id)
    assert task["assigned_to"] == taker.id
    reasons = [entry["details"] for entry in task["history"] if entry["event"] == "reclaimed"]
    assert reasons == ["progress_timeout"]
    # It is told that the task is no longer its own.
    await silent.wait_for("task_cancel", task_id=task_id)


async def test_an_overdue_task_ends_and_others_go_on(scenario: Scenario) -> None:
    agent = await scenario.agent(work=forever)
    now = await scenario.store.services.now()
    overdue = await scenario.submit(complete_by=now + 1_500)
    await agent.wait_for("task_ack", status="accepted", task_id=overdue)
    task = await scenario.operator.wait_for(overdue, "dead_letter")
    assert "overdue" in task["last_error"]
    agent.work = working_for(0.0)
    await agent.wait_for("task_cancel", task_id=overdue)
    await scenario.completed(await scenario.submit())


async def test_a_task_that_waits_too_long_expires(scenario: Scenario) -> None:
    now = await scenario.store.services.now()
    task_id = await scenario.submit(expires_at=now + 300)
    task = await scenario.operator.wait_for(task_id, "dead_letter")
    assert "expired" in task["last_error"]


async def test_an_attempt_that_runs_too_long_counts_as_failed(scenario: Scenario) -> None:
    agent = await scenario.agent(work=forever)
    task_id = await scenario.submit(max_runtime_ms=300, max_retries=1)
    task = await scenario.operator.wait_for(task_id, "dead_letter")
    assert task["retry_count"] == 1
    await agent.wait_for("task_cancel", task_id=task_id)


async def test_a_rejected_task_goes_to_another_agent(scenario: Scenario) -> None:
    busy = await scenario.agent(accepts=False)
    task_id = await scenario.submit()
    assign = await busy.wait_for("task_assign", task_id=task_id)
    other = await scenario.agent()
    generation = assign["generation"]
    await busy.send({"type": "task_rejected", "task_id": task_id, "generation": generation, "reason": "busy"})
    task = await scenario.completed(task_id)
    assert task["assigned_to"] == other.id
    assert task["retry_count"] == 0
    assert busy.received("task_ack", task_id=task_id)[0]["status"] == "rejected"


async def test_a_delayed_task_waits_for_its_time(scenario: Scenario) -> None:
    await scenario.agent()
    now = await scenario.store.services.now()
    task_id = await scenario.submit(run_at=now + 800)
    assert (await scenario.operator.task(task_id))["status"] == "delayed"
    task = await scenario.completed(task_id)
    assert task["assigned_at"] >= now + 800


async def test_the_same_submission_twice_is_one_task(scenario: Scenario) -> None:
    body = {"description": "once", "needed_capabilities": [scenario.capability]}
    key = {"idempotency-key": f"key-{scenario.capability}"}
    answers = await asyncio.gather(
        *[scenario.operator.request("POST", "/api/tasks", body, **key) for _ in range(8)],
    )
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    (task_id,) = {answer.json()["task_id"] for answer in answers}
    other = await scenario.operator.request("POST", "/api/tasks", {**body, "description": "twice"}, **key)
    assert other.status_code == 409
    assert other.json()["error"] == "idempotency_conflict"
    scenario.acknowledged.append(task_id)
    agent = await scenario.agent()
    await scenario.completed(task_id)
    assert sum(agent.runs.values()) == 1


async def test_a_low_task_is_not_starved_by_urgent_ones(scenario: Scenario) -> None:
    """With a window of 0.3 s a low task is as urgent as those that come 0.9 s after it, however many they are."""
    api = scenario.hub.add("api", priority_window_ms=300)
    await api.start()
    try:

        async def submit(priority: str) -> str:
            body = {"description": priority, "priority": priority, "needed_capabilities": [scenario.capability]}
            response = await scenario.operator.request("POST", f"{api.url}/api/tasks", body)
            assert response.status_code == 201
            scenario.acknowledged.append(response.json()["task_id"])
            return scenario.acknowledged[-1]

        low = await submit("low")
        before = [await submit("urgent") for _ in range(5)]
        submitted = (await scenario.operator.task(low))["created_at"]
        await eventually(lambda: time.time() * 1_000 > submitted + 950, timeout=5)
        after = [await submit("urgent") for _ in range(5)]
        agent = await scenario.agent()
        await scenario.rest()
        order = [frame["task_id"] for frame in agent.received("task_assign")]
        assert order == [*before, low, *after]
    finally:
        api.kill()
        scenario.hub.processes.remove(api)


async def test_a_pinned_task_goes_only_to_its_agent(scenario: Scenario) -> None:
    await scenario.fleet(3)
    chosen = await scenario.agent(capabilities=[])
    tasks = [await scenario.submit(target_agent=chosen.id) for _ in range(3)]
    done = [await scenario.completed(task_id) for task_id in tasks]
    assert {task["assigned_to"] for task in done} == {chosen.id}


async def test_a_queued_task_is_cancelled_at_once(scenario: Scenario) -> None:
    task_id = await scenario.submit()
    assert await scenario.operator.cancel(task_id) == "cancelled"
    agent = await scenario.agent()
    other = await scenario.submit()
    await scenario.completed(other)
    assert task_id not in agent.runs


async def test_a_running_task_is_cancelled_by_its_agent(scenario: Scenario) -> None:
    agent = await scenario.agent(work=forever)
    task_id = await scenario.submit()
    await agent.wait_for("task_ack", status="accepted", task_id=task_id)
    assert await scenario.operator.cancel(task_id) == "cancelling"
    await agent.wait_for("task_ack", status="cancelled", task_id=task_id)
    assert (await scenario.operator.task(task_id))["status"] == "cancelled"
    agent.work = working_for(0.0)
    await scenario.completed(await scenario.submit())


async def test_a_cancel_that_an_old_client_does_not_understand_ends_by_itself(scenario: Scenario) -> None:
    agent = await scenario.agent(work=forever, features=None)
    task_id = await scenario.submit()
    await agent.wait_for("task_ack", status="accepted", task_id=task_id)
    await scenario.operator.cancel(task_id)
    await scenario.operator.wait_for(task_id, "cancelled")
    await agent.send({"type": "task_complete", "task_id": task_id, "generation": 1, "result": {}})
    error = await agent.wait_for("error", task_id=task_id)
    assert error["error"] == "task_complete_failed: invalid_state"


async def test_reports_of_a_task_held_by_somebody_else_are_refused(scenario: Scenario) -> None:
    holder = await scenario.agent(work=forever)
    task_id = await scenario.submit()
    assign = await holder.wait_for("task_assign", task_id=task_id)
    await holder.wait_for("task_ack", status="accepted", task_id=task_id)
    thief = await scenario.agent()
    generation = assign["generation"]
    await thief.send({"type": "task_complete", "task_id": task_id, "generation": generation, "result": {"mine": 1}})
    assert (await thief.wait_for("error", task_id=task_id))["code"] == "not_owner"
    await thief.send({"type": "task_failed", "task_id": task_id, "generation": generation - 1, "error": "no"})
    assert (await thief.wait_for("error", request_type="task_failed"))["code"] == "stale_generation"
    await holder.send({"type": "task_complete", "task_id": task_id, "generation": generation, "result": {"ok": 1}})
    task = await scenario.completed(task_id)
    assert task["result"] == {"ok": 1}
    # The same report once more gets the same answer, and changes nothing.
    await holder.send({"type": "task_complete", "task_id": task_id, "generation": generation, "result": {"ok": 2}})
    await eventually(lambda: len(holder.received("task_ack", status="complete")) == 2)
    assert (await scenario.operator.task(task_id))["result"] == {"ok": 1}
