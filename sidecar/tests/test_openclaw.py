"""Agents in an OpenClaw Gateway, by a stub that speaks the program's JSON: one turn for each attempt."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sidecar_support.eventually import eventually
from sidecar_support.hub import Hub
from sidecar_support.program import Program
from sidecar_support.workshop import Workshop

Make = Callable[..., Program]


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    workshop = Workshop(tmp_path / "workshop")
    yield workshop
    workshop.gates.open_all()


@pytest.fixture
def openclaw(program: Make, workshop: Workshop) -> Make:
    def make(**config: Any) -> Program:
        quick = {"openclaw_wait_ms": 300, "wake_patience_ms": 8000}
        return program(**{"wake_mode": "openclaw", "openclaw_command": workshop.openclaw, **quick, **config})

    return make


async def started(sidecar: Program, hub: Hub) -> Program:
    await sidecar.start()
    await eventually(lambda: hub.connected, what=sidecar.console())
    return sidecar


async def settled(hub: Hub) -> dict[str, Any]:
    await eventually(lambda: hub.settled)
    assert len(hub.settled) == 1
    return hub.settled[0]


async def test_turn_is_called_with_its_key_followed_and_its_file_is_the_result(
    hub: Hub, openclaw: Make, workshop: Workshop
) -> None:
    workshop.behave(result={"status": "success", "output": "made it", "tokens_used": 9})
    sidecar = await started(openclaw(), hub)
    await hub.assign("task-1", generation=4)
    report = await settled(hub)
    assert report["result"] == {"status": "success", "output": "made it", "tokens_used": 9}
    (call,) = workshop.calls("agent")
    assert call["idempotencyKey"] == "agentcom:task-1:4:1"
    assert (call["agentId"], call["sessionKey"]) == ("main", "agent:main:agentcom:task-1")
    assert call["timeout"] == 3600
    assert sidecar.logged("wake_accepted")
    assert sidecar.logged("confirmation_received")
    assert workshop.turns() == 1
    await eventually(lambda: not list((sidecar.folder / "results").iterdir()))


async def test_progress_is_sent_while_the_turn_works(hub: Hub, openclaw: Make, workshop: Workshop) -> None:
    workshop.gates.shut("turn")
    await started(openclaw(), hub)
    await hub.assign("task-1", generation=2)
    await eventually(workshop.turns)
    seen = len(hub.seen("task_progress"))
    await eventually(lambda: len(hub.seen("task_progress", task_id="task-1", generation=2)) > seen + 3)
    workshop.gates.open("turn")
    await settled(hub)


async def test_turn_without_a_result_file_fails(hub: Hub, openclaw: Make, workshop: Workshop) -> None:
    workshop.behave(result=None, reply="I did it, honestly.")
    await started(openclaw(), hub)
    await hub.assign("task-1")
    assert (await settled(hub))["error"].startswith("no_result: ")


async def test_reply_is_the_output_if_so_configured(hub: Hub, openclaw: Make, workshop: Workshop) -> None:
    workshop.behave(result=None, reply="the reply")
    await started(openclaw(result="auto"), hub)
    await hub.assign("task-1")
    assert (await settled(hub))["result"]["output"] == "the reply"


async def test_deferred_result_may_come_after_the_turn(hub: Hub, openclaw: Make, workshop: Workshop) -> None:
    workshop.behave(result=None)
    sidecar = await started(openclaw(result="deferred"), hub)
    await hub.assign("task-1")
    await eventually((sidecar.folder / "data" / "runs" / "task-1" / "ended.json").exists)
    assert not hub.settled
    await sidecar.kill()
    await sidecar.start()
    (sidecar.folder / "results" / "task-1.json").write_text('{"status": "success", "output": "later"}')
    assert (await settled(hub))["result"]["output"] == "later"
    assert workshop.turns() == 1


async def test_failed_turn_fails_with_its_reason(hub: Hub, openclaw: Make, workshop: Workshop) -> None:
    workshop.behave(result=None, status="error", reason="model said no")
    await started(openclaw(), hub)
    await hub.assign("task-1")
    assert (await settled(hub))["error"] == "agent_error: model said no"


async def test_unreachable_gateway_is_tried_again_with_the_same_key(
    hub: Hub, openclaw: Make, workshop: Workshop
) -> None:
    (workshop.state / "down").touch()
    sidecar = await started(openclaw(), hub)
    await hub.assign("task-1")
    await eventually(lambda: len(sidecar.logged("wake_retry")) >= 2)
    (workshop.state / "down").unlink()
    await settled(hub)
    assert {call["idempotencyKey"] for call in workshop.calls("agent")} == {"agentcom:task-1:1:1"}
    assert workshop.turns() == 1


async def test_gateway_that_stays_away_fails_the_task(hub: Hub, openclaw: Make, workshop: Workshop) -> None:
    (workshop.state / "down").touch()
    await started(openclaw(wake_patience_ms=300, kill_grace_ms=100), hub)
    await hub.assign("task-1")
    assert (await settled(hub))["error"].startswith("wake_failed: gateway_transport_error: ")


async def test_refused_call_is_not_repeated(hub: Hub, openclaw: Make, workshop: Workshop) -> None:
    sidecar = await started(openclaw(openclaw_agent="nobody"), hub)
    await hub.assign("task-1")
    assert "unknown agent id" in (await settled(hub))["error"]
    assert len(workshop.calls("agent")) == 1
    assert not sidecar.logged("wake_retry")


async def test_missing_program_fails_with_its_name(hub: Hub, openclaw: Make) -> None:
    await started(openclaw(openclaw_command=["/no/openclaw"]), hub)
    await hub.assign("task-1")
    assert "wake_command_failed: cannot start '/no/openclaw'" in (await settled(hub))["error"]


async def test_cancel_aborts_the_turn(hub: Hub, openclaw: Make, workshop: Workshop) -> None:
    workshop.gates.shut("turn")
    await started(openclaw(), hub)
    await hub.assign("task-1")
    await eventually(workshop.turns)
    await hub.send({"type": "task_cancel", "task_id": "task-1", "generation": 1, "reason": "operator"})
    assert (await settled(hub))["type"] == "task_cancelled"
    assert workshop.calls("chat.abort")[0] == {
        "sessionKey": "agent:main:agentcom:task-1",
        "runId": "agentcom:task-1:1:1",
    }


async def test_task_that_somebody_else_got_is_aborted(hub: Hub, openclaw: Make, workshop: Workshop) -> None:
    workshop.gates.shut("turn")
    sidecar = await started(openclaw(), hub)
    await hub.assign("task-1")
    await eventually(workshop.turns)
    hub.answer_recovering = "task_reassign"
    hub.cut()
    await eventually(lambda: any(line["over"] for line in sidecar.logged("agent_aborted")))
    assert not hub.settled


async def test_cancel_before_the_gateway_knows_the_turn_is_repeated_until_it_does(
    hub: Hub, openclaw: Make, workshop: Workshop
) -> None:
    """The program that makes the call is ended, and whatever it still brought about is aborted."""
    workshop.gates.shut("before-accept")
    await started(openclaw(kill_grace_ms=3000), hub)
    await hub.assign("task-1")
    await eventually(lambda: workshop.gates.reached("before-accept"))
    await hub.send({"type": "task_cancel", "task_id": "task-1", "generation": 1, "reason": "operator"})
    await eventually(lambda: len(workshop.calls("chat.abort")) >= 2)
    workshop.gates.open("before-accept")
    assert (await settled(hub))["type"] == "task_cancelled"
    assert workshop.turns() == 0


async def test_turn_that_takes_too_long_is_aborted(hub: Hub, openclaw: Make, workshop: Workshop) -> None:
    workshop.gates.shut("turn")
    await started(openclaw(wake_timeout_ms=1500), hub)
    await hub.assign("task-1")
    assert (await settled(hub))["error"].startswith("wake_timeout: ")
    assert workshop.calls("chat.abort")


async def test_turn_that_lingers_after_its_result_is_aborted(hub: Hub, openclaw: Make, workshop: Workshop) -> None:
    workshop.gates.shut("result")
    sidecar = await started(openclaw(kill_grace_ms=300), hub)
    await hub.assign("task-1")
    assert (await settled(hub))["type"] == "task_complete"
    assert sidecar.logged("agent_lingers")
    assert workshop.calls("chat.abort")


async def test_turn_of_a_restarted_gateway_is_lost_and_not_done_again(
    hub: Hub, openclaw: Make, workshop: Workshop
) -> None:
    workshop.gates.shut("turn")
    await started(openclaw(), hub)
    await hub.assign("task-1")
    await eventually(workshop.turns)
    workshop.restart_gateway()
    assert (await settled(hub))["error"].startswith("agent_lost: ")
    assert len(workshop.calls("agent")) == 1


async def test_key_is_not_sent_to_another_gateway_after_a_crash(hub: Hub, openclaw: Make, workshop: Workshop) -> None:
    """Whether the former Gateway accepted the call cannot be known any more."""
    workshop.gates.shut("before-accept")
    sidecar = await started(openclaw(), hub)
    await hub.assign("task-1")
    await eventually(lambda: workshop.gates.reached("before-accept"))
    await sidecar.kill()
    workshop.restart_gateway()
    calls = len(workshop.calls("agent"))
    await sidecar.start()
    assert (await settled(hub))["error"].startswith("agent_lost: ")
    assert len(workshop.calls("agent")) == calls
    workshop.gates.open("before-accept")


async def test_turn_outlives_a_stopped_sidecar(hub: Hub, openclaw: Make, workshop: Workshop) -> None:
    workshop.gates.shut("turn")
    sidecar = await started(openclaw(), hub)
    await hub.assign("task-1")
    await eventually(lambda: sidecar.logged("wake_accepted") and workshop.turns())
    assert await sidecar.stop() == 0
    assert not workshop.calls("chat.abort")
    workshop.gates.open("turn")
    await sidecar.start()
    await settled(hub)
    assert len(workshop.calls("agent")) == 1


async def test_headless_turn_of_its_own_process(hub: Hub, openclaw: Make, workshop: Workshop) -> None:
    workshop.behave(result=None, reply="the reply")
    await started(openclaw(wake_mode="openclaw-exec", result="auto"), hub)
    await hub.assign("task-1")
    assert (await settled(hub))["result"] == {"status": "success", "output": "the reply", "tokens_used": 7}


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        ({"result": None}, "no_result: "),
        ({"result": None, "status": "timeout"}, "agent_timeout: "),
        ({"result": None, "status": "error", "reason": "bad key"}, "agent_error: bad key"),
        ({"result": {"status": "failed", "reason": "too hard"}}, "too hard"),
    ],
)
async def test_headless_turn_that_does_not_succeed(
    hub: Hub, openclaw: Make, workshop: Workshop, behaviour: dict[str, Any], error: str
) -> None:
    workshop.behave(**behaviour)
    await started(openclaw(wake_mode="openclaw-exec"), hub)
    await hub.assign("task-1")
    assert (await settled(hub))["error"].startswith(error)


async def test_started_inside_an_agents_shell_is_said(program: Make, workshop: Workshop) -> None:
    sidecar = program(wake_mode="openclaw", openclaw_command=workshop.openclaw)
    await sidecar.start(OPENCLAW_SHELL="exec")
    await eventually(lambda: any("OPENCLAW_SHELL" in line["text"] for line in sidecar.logged("config_doubt")))


@pytest.mark.parametrize("mode", ["openclaw", "openclaw-exec"])
async def test_hub_away_while_the_turn_finishes(hub: Hub, openclaw: Make, workshop: Workshop, mode: str) -> None:
    workshop.gates.shut("turn")
    sidecar = await started(openclaw(wake_mode=mode), hub)
    await hub.assign("task-1")
    await eventually(workshop.turns)
    await hub.stop()
    workshop.gates.open("turn")
    await eventually(sidecar.outbox)
    refused = len(sidecar.logged("ws_connect_error"))
    await eventually(lambda: len(sidecar.logged("ws_connect_error")) > refused + 2)
    await hub.start()
    assert (await settled(hub))["result"]["output"] == "done"
    await eventually(lambda: not sidecar.outbox())
    assert workshop.turns() == 1
    assert json.dumps(hub.settled).count("task_complete") == 1
