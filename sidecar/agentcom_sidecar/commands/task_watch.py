"""Following a task to its end by asking for it again and again."""

import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

from agentcom_sidecar.hub_api import HubApi, HubUnreachable

QUICK_SECONDS = 0.3
SLOW_SECONDS = 2.0
QUICK_POLLS = 20
"""A task that is not over by then is a long one; hubs may limit how often they are asked."""


class Outcome(StrEnum):
    """How watching ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NOT_OVER = "not_over"


OUTCOMES = {"completed": Outcome.COMPLETED, "dead_letter": Outcome.FAILED, "cancelled": Outcome.CANCELLED}


def watch_task(
    api: HubApi, task_id: str, *, timeout: float | None, tell: Callable[[str], None]
) -> tuple[Outcome, Mapping[str, Any]]:
    """Wait for the end of a task, or for the time to be up (seconds); ``tell`` hears of every change.

    Returns the task as it was last seen. A hub that is away for a while is waited for. Raises HubRefused.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    task: Mapping[str, Any] = {}
    away = False
    polls = 0
    while True:
        try:
            seen = api.task(task_id)
        except HubUnreachable as error:
            if not away:
                tell(f"{error} Trying again.")
            away = True
        else:
            away = False
            for line in changes(task, seen):
                tell(line)
            task = seen
        outcome = OUTCOMES.get(str(task.get("status")))
        if outcome is not None:
            return outcome, task
        pause = QUICK_SECONDS if polls < QUICK_POLLS else SLOW_SECONDS
        polls += 1
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                tell("not over yet; it goes on without us")
                return Outcome.NOT_OVER, task
            pause = min(pause, left)
        time.sleep(pause)


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is new about a task, in words."""

    def changed(field: str) -> bool:
        return now.get(field) is not None and now.get(field) != before.get(field)

    lines = []
    if changed("retry_count") and now["retry_count"] and before:
        lines.append(f"failed, to be tried again: {now.get('last_error') or 'no reason given'}")
    status = now.get("status")
    moved = changed("status") or (status == "assigned" and changed("generation"))
    if moved:
        who = f" to {now.get('assigned_to')}" if status == "assigned" else ""
        why = f": {now.get('last_error')}" if status in {"dead_letter", "cancelled"} and now.get("last_error") else ""
        lines.append(f"{str(status).replace('_', ' ')}{who}{why}")
    if status == "assigned" and changed("accepted_at"):
        lines.append(f"accepted by {now.get('assigned_to')}")
    if changed("progress"):
        lines.append(f"{now['progress']} % done")
    if changed("cancel_requested_at") and status == "assigned":
        lines.append("to be cancelled")
    return lines
