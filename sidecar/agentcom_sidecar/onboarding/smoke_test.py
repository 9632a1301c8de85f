"""A first task for the new agent itself, all the way: hub, sidecar, wake, agent, result, hub."""

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from agentcom_client import AgentState, Task
from agentcom_client.types import FINISHED
from agentcom_sidecar.failure import Failure
from agentcom_sidecar.hub_api import HubApi, HubRefused, HubUnreachable
from agentcom_sidecar.invocation import program
from agentcom_sidecar.onboarding.progress import ProgressFile

POLL_SECONDS = 0.5
SLOW_POLL_SECONDS = 2.0
QUICK_POLLS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """The check that the agent has passed. Seconds from the submission to the result."""

    task_id: str
    seconds: float


def wait_until_connected(api: HubApi, name: str, *, timeout: float, still_runs: Callable[[], None]) -> None:
    """Wait until the hub sees the agent. ``still_runs`` raises when waiting has become pointless. Raises Failure."""
    deadline = time.monotonic() + timeout
    while True:
        state = _state(api, name)
        if state is not None and state.get("fsm_state") != "offline":
            return
        still_runs()
        if time.monotonic() > deadline:
            raise Failure(f"{name} did not connect to the hub within {timeout:g} seconds.", code="not_connected")
        time.sleep(POLL_SECONDS)


def check_agent(
    api: HubApi,
    progress: ProgressFile,
    *,
    timeout: float,
    still_runs: Callable[[], None],
    tell: Callable[[str], None],
) -> Passed:
    """Submit a task for this agent only and wait until it is done. Raises Failure.

    The task's idempotency key is recorded before it is submitted: after a crash it is found again, not repeated.
    """
    name = progress.now.agent_name
    if progress.now.verify_key is None:
        progress.update(verify_key=f"onboarding-{name}-{secrets.token_hex(8)}")
    key = str(progress.now.verify_key)
    started = time.monotonic()
    task_id = api.submit(**_task(name, progress), idempotency_key=key)
    tell(f"{task_id} submitted")
    task = _wait(api, task_id, timeout=timeout, still_runs=still_runs, tell=tell)
    progress.update(verify_key=None)
    if task is None:
        _withdraw(api, task_id)
        raise _failed(f"{name} did not finish its first task {task_id} within {timeout:g} seconds.", name)
    if task.get("status") != "completed":
        reason = task.get("last_error") or "no reason is given"
        raise _failed(f"The first task {task_id} of {name} ended as {task.get('status')}: {reason}", name)
    if task.get("assigned_to") != name:
        raise _failed(f"The hub gave the first task {task_id} of {name} to {task.get('assigned_to')}.", name)
    return Passed(task_id=task_id, seconds=time.monotonic() - started)


def _task(name: str, progress: ProgressFile) -> dict[str, Any]:
    """The task needs what the agent offers, so it also shows that its capabilities have arrived."""
    return {
        "description": (
            f"AgentCom checks that {name} can be woken. There is nothing to do: change no files, and finish at once "
            f"with the output: {name} is online."
        ),
        "priority": "urgent",
        "target_agent": name,
        "needed_capabilities": list(progress.now.options.capabilities),
        "max_retries": 0,
        "metadata": {"onboarding_test": True},
    }


def _wait(
    api: HubApi, task_id: str, *, timeout: float, still_runs: Callable[[], None], tell: Callable[[str], None]
) -> Task | None:
    """The finished task; None when the time is up."""
    deadline = time.monotonic() + timeout
    seen = ""
    polls = 0
    while True:
        with suppress(HubUnreachable):
            task = api.task(task_id)
            if task["status"] in FINISHED:
                return task
            if task["status"] != seen:
                seen = task["status"]
                tell(f"{task_id} is {seen}")
        still_runs()
        if time.monotonic() > deadline:
            return None
        polls += 1
        time.sleep(POLL_SECONDS if polls < QUICK_POLLS else SLOW_POLL_SECONDS)


def _state(api: HubApi, name: str) -> AgentState | None:
    try:
        return api.state_of(name)
    except HubUnreachable:
        return None


def _withdraw(api: HubApi, task_id: str) -> None:
    """Nobody waits for it any more. A hub that cannot cancel keeps it."""
    try:
        api.cancel(task_id, reason="the onboarding check took too long")
    except (HubRefused, HubUnreachable):
        return


def _failed(sentence: str, name: str) -> Failure:
    return Failure(
        sentence,
        code="verification_failed",
        advice=(
            f"The agent is installed and registered. See what it did: {program()} logs --agent {name}",
            f"Try again: {program()} add-agent --resume --name {name}",
        ),
    )
