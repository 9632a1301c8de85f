"""Tasks over the socket: pushed, accepted, reported, refused, resumed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import orjson
import pytest

from agentcom.domain.agents import AgentState
from agentcom.domain.tasks import Task, TaskStatus
from agentcom.store.tasks import Report
from tests.services.ws_gateway.support import Client, Frame, GatewayHub
from tests.support.builders import serve_matches
from tests.support.eventually import eventually


async def task(hub: GatewayHub, task_id: str) -> Task:
    return await hub.store.task_reader.get(task_id)


async def assigned(hub: GatewayHub, client: Client, **fields: Any) -> Frame:
    """A task that the agent was given, and the frame it was given with."""
    task_id = await hub.submit(**fields)
    frame = await client.until("task_assign")
    assert frame["task_id"] == task_id
    return frame


def about(assignment: Frame, kind: str, **fields: Any) -> Frame:
    return {"type": kind, "task_id": assignment["task_id"], "generation": assignment["generation"], **fields}


async def test_from_assignment_to_result(hub: GatewayHub) -> None:
    client = await hub.agent("a1")
    frame = await assigned(hub, client, description="write it", metadata='{"empty":[],"n":1.5}')
    assert (frame["description"], frame["metadata"]) == ("write it", {"empty": [], "n": 1.5})
    assert frame["generation"] == 1
    ack = await client.ask(about(frame, "task_accepted"))
    assert ack == {"type": "task_ack", "task_id": frame["task_id"], "status": "accepted", "generation": 1}
    assert (await hub.store.agents.get("a1")).state is AgentState.WORKING
    result = {"answer": ["ü", {}], "empty": []}
    ack = await client.ask(about(frame, "task_complete", result=result, tokens_used=42))
    assert ack == {"type": "task_ack", "task_id": frame["task_id"], "status": "complete", "generation": 1}
    done = await task(hub, frame["task_id"])
    assert (done.status, done.tokens_used) == (TaskStatus.COMPLETED, 42)
    assert done.result == orjson.dumps(result).decode()
    assert (await hub.store.agents.get("a1")).state is AgentState.IDLE


async def test_the_next_task_travels_right_behind_the_ack(hub: GatewayHub) -> None:
    client = await hub.agent("a1")
    first = await assigned(hub, client)
    second = await hub.submit()
    await client.send(about(first, "task_complete"))
    ack, assignment = await client.receive(), await client.receive()
    assert (ack["type"], ack["status"]) == ("task_ack", "complete")
    assert (assignment["type"], assignment["task_id"]) == ("task_assign", second)


async def test_tokens_are_taken_from_the_result_if_not_told(hub: GatewayHub) -> None:
    client = await hub.agent("a1")
    frame = await assigned(hub, client)
    await client.finish(frame, result={"tokens_used": 7})
    assert (await task(hub, frame["task_id"])).tokens_used == 7


async def test_a_result_keeps_its_large_numbers(hub: GatewayHub) -> None:
    client = await hub.agent("a1")
    frame = await assigned(hub, client)
    big = "123456789012345678901234567890"
    await client.send(json.dumps(about(frame, "task_complete", result={"tokens_used": int(big), "n": [-int(big)]})))
    assert (await client.receive())["status"] == "complete"
    done = await task(hub, frame["task_id"])
    assert done.result == f'{{"tokens_used":{big},"n":[-{big}]}}'
    assert done.tokens_used is None


async def test_progress_is_kept_and_not_answered(hub: GatewayHub) -> None:
    client = await hub.agent("a1")
    frame = await assigned(hub, client)
    await client.send(about(frame, "task_progress", progress=40))
    assert (await client.ask({"type": "ping"}))["type"] == "pong"
    assert (await task(hub, frame["task_id"])).progress == 40


async def test_a_failure_is_retried_and_then_buried(hub: GatewayHub) -> None:
    client = await hub.agent("a1")
    frame = await assigned(hub, client, max_retries=2, retry_backoff_ms=0)
    await client.send(about(frame, "task_failed", error="first"))
    assert (await client.receive())["status"] == "retried"
    await serve_matches(hub.store)
    again = await client.until("task_assign")
    assert again["generation"] > frame["generation"]
    await client.send(about(again, "task_failed", reason="second"))
    assert (await client.receive())["status"] == "dead_letter"
    assert (await task(hub, frame["task_id"])).last_error == "second"


@pytest.mark.parametrize(
    ("kind", "text"), [("task_complete", "task_complete_failed"), ("task_failed", "task_fail_failed")]
)
async def test_refused_reports_say_why(hub: GatewayHub, kind: str, text: str) -> None:
    client, other = await hub.agent("a1", capabilities=["x"]), await hub.agent("a2")
    frame = await assigned(hub, client, needed_capabilities=("x",))
    stale = await client.ask(about(frame, kind, generation=frame["generation"] + 1))
    assert (stale["error"], stale["code"]) == (f"{text}: stale_generation", "stale_generation")
    assert (stale["task_id"], stale["generation"]) == (frame["task_id"], frame["generation"] + 1)
    foreign = await other.ask(about(frame, kind), "error")
    assert foreign["error"] == f"{text}: not_owner"
    unknown = await client.ask({"type": kind, "task_id": "task-ffffffffffffffff", "generation": 1})
    assert unknown["error"] == f"{text}: not_found"
    await client.finish(frame)
    finished = await client.ask(about(frame, "task_failed"))
    assert finished["error"] == "task_fail_failed: invalid_state"


async def test_a_report_may_be_repeated_until_it_is_acknowledged(hub: GatewayHub) -> None:
    client = await hub.agent("a1")
    frame = await assigned(hub, client)
    first = await client.ask(about(frame, "task_complete", result={"a": 1}))
    second = await client.ask(about(frame, "task_complete", result={"a": 1}))
    assert first == second


async def test_a_foreign_or_unknown_task_can_be_neither_accepted_nor_rejected(hub: GatewayHub) -> None:
    owner, client = await hub.agent("a1", capabilities=["x"]), await hub.agent("a2")
    frame = await assigned(hub, owner, needed_capabilities=("x",))
    for kind, text in [
        ("task_accepted", "task_accept_failed"),
        ("task_progress", "task_progress_failed"),
        ("task_rejected", "task_reject_failed"),
    ]:
        refusal = await client.ask({"type": kind, "task_id": frame["task_id"]}, "error")
        assert (refusal["error"], refusal["request_type"]) == (f"{text}: not_owner", kind)
    reply = await client.ask({"type": "task_recovering", "task_id": frame["task_id"]})
    assert reply == {"type": "task_reassign", "task_id": frame["task_id"]}


async def test_a_rejected_task_goes_to_somebody_else_at_once(hub: GatewayHub) -> None:
    client = await hub.agent("a1")
    frame = await assigned(hub, client)
    helper = await hub.agent("a2")
    ack = await client.ask(about(frame, "task_rejected", reason="busy"), "task_ack")
    assert ack["status"] == "rejected"
    await serve_matches(hub.store)
    taken = await helper.until("task_assign")
    assert taken["task_id"] == frame["task_id"]
    assert (await task(hub, frame["task_id"])).retry_count == 0
    assert (await hub.store.agents.get("a1")).state is AgentState.BLOCKED


async def test_a_cancelled_task_is_stopped_by_its_agent(hub: GatewayHub) -> None:
    client = await hub.agent("a1", features=["cancel"])
    frame = await assigned(hub, client)
    outcome = await hub.store.tasks.cancel(frame["task_id"], requester="submitter", privileged=False, reason="enough")
    assert outcome == "cancelling"
    order = await client.until("task_cancel")
    assert order == {"type": "task_cancel", "task_id": frame["task_id"], "generation": 1, "reason": "enough"}
    ack = await client.ask(about(frame, "task_cancelled"))
    assert ack == {"type": "task_ack", "task_id": frame["task_id"], "status": "cancelled", "generation": 1}
    assert (await task(hub, frame["task_id"])).status is TaskStatus.CANCELLED


async def test_nobody_can_cancel_by_confirming(hub: GatewayHub) -> None:
    client = await hub.agent("a1")
    frame = await assigned(hub, client)
    refusal = await client.ask(about(frame, "task_cancelled"))
    assert refusal["error"] == "task_cancel_failed: not_cancelling"


async def test_an_unaccepted_task_is_pushed_again_after_a_reconnect(hub: GatewayHub) -> None:
    client = await hub.agent("a1")
    frame = await assigned(hub, client)
    client.socket.transport.abort()
    back = await hub.agent("a1")
    again = await back.receive()
    assert (again["type"], again["task_id"]) == ("task_assign", frame["task_id"])
    assert again["generation"] == frame["generation"]
    assert (await back.finish(again))["status"] == "complete"


async def test_an_accepted_task_goes_on_after_a_reconnect(hub: GatewayHub) -> None:
    client = await hub.agent("a1")
    frame = await assigned(hub, client)
    await client.ask(about(frame, "task_accepted"))
    client.socket.transport.abort()
    back = await hub.agent("a1")
    reply = await back.ask({"type": "task_recovering", "task_id": frame["task_id"]})
    assert reply == {"type": "task_continue", "task_id": frame["task_id"], "generation": frame["generation"]}
    assert (await back.ask(about(frame, "task_complete")))["status"] == "complete"


async def test_a_report_on_the_old_connection_counts_and_the_next_task_goes_to_the_new_one(hub: GatewayHub) -> None:
    """The old socket is still open when its report arrives, because nobody has told it of the new one yet."""
    older = await hub.agent("a1")
    frame = await assigned(hub, older)
    await older.ask(about(frame, "task_accepted"))
    next_task = await hub.submit()
    token = await hub.token("a1")
    newer = await hub.stranger()
    await newer.send({"type": "identify", "agent_id": "a1", "token": token})
    await older.send(about(frame, "task_complete"))
    await older.closed()
    identified = await newer.receive()
    assert identified["type"] == "identified"
    if (await task(hub, frame["task_id"])).status is TaskStatus.ASSIGNED:  # closed before its report was read
        await newer.send(about(frame, "task_complete"))
    assert (await newer.until("task_assign"))["task_id"] == next_task


async def test_a_result_may_not_be_larger_than_allowed(redis_url: str, namespace: str) -> None:
    async with GatewayHub(redis_url, namespace, max_result_bytes=100) as hub:
        client = await hub.agent("a1")
        frame = await assigned(hub, client)
        refusal = await client.ask(about(frame, "task_complete", result={"text": "x" * 200}))
        assert (refusal["code"], refusal["task_id"]) == ("result_too_large", frame["task_id"])
        assert (await task(hub, frame["task_id"])).status is TaskStatus.ASSIGNED
        assert (await client.ask(about(frame, "task_complete", result={"text": "x" * 50})))["status"] == "complete"


async def test_an_answer_on_its_way_comes_before_what_is_pushed_meanwhile(
    hub: GatewayHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has done the report and given the agent its next task, and the push arrives before the answer."""
    client = await hub.agent("a1")
    frame = await assigned(hub, client)
    tasks = hub.gateway_store.tasks
    complete = tasks.complete

    async def answer_late(*args: Any, **kwargs: Any) -> Report:
        report = await complete(*args, **kwargs)
        await hub.submit(description="the next one")
        (connection,) = hub.gateway.registry.agents()
        await eventually(lambda: connection.session.held == 1)
        return report

    monkeypatch.setattr(tasks, "complete", answer_late)
    await client.send(about(frame, "task_complete"))
    ack, assignment = await client.receive(), await client.receive()
    assert (ack["type"], ack["status"]) == ("task_ack", "complete")
    assert (assignment["type"], assignment["description"]) == ("task_assign", "the next one")


async def test_an_assignment_never_comes_before_identified(hub: GatewayHub, monkeypatch: pytest.MonkeyPatch) -> None:
    agents = hub.gateway_store.agents
    connect = agents.connect

    async def answer_late(connection: Any) -> Any:
        resumption = await connect(connection)
        await hub.submit()
        (socket,) = hub.gateway.registry.sockets()
        await eventually(lambda: socket.session.held == 1)
        return resumption

    monkeypatch.setattr(agents, "connect", answer_late)
    client = await hub.stranger()
    await client.send({"type": "identify", "agent_id": "a1", "token": await hub.token("a1")})
    assert [(await client.receive())["type"] for _ in range(2)] == ["identified", "task_assign"]


async def test_answers_come_in_the_order_of_the_frames(hub: GatewayHub) -> None:
    """Also when a later one is answered sooner by the store, and when one needs no store at all."""
    client = await hub.agent("a1")
    for _ in range(20):
        for kind in ("list_agents", "ping", "identify", "list_agents", "ping"):
            await client.send({"type": kind, "agent_id": "a1", "token": "already here"})
    kinds = [(await client.receive())["type"] for _ in range(100)]
    assert kinds == ["agents", "pong", "identified", "agents", "pong"] * 20


async def test_more_frames_than_may_be_in_flight_are_all_answered(hub: GatewayHub) -> None:
    client = await hub.agent("a1")
    sending = asyncio.create_task(_flood(client, 1_000))
    for _ in range(1_000):
        assert (await client.receive())["type"] == "pong"
    await sending


async def _flood(client: Client, count: int) -> None:
    for _ in range(count):
        await client.send({"type": "ping"})
