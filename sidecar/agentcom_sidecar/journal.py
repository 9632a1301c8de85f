"""The task in hand, on disk, so that a restart knows what was promised to the hub."""

import os
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from agentcom_sidecar.files import read_object, to_json, write_atomic
from agentcom_sidecar.protocol import TASK_ID


class Phase(StrEnum):
    """How far the task in hand has come; written before the step it names."""

    ACCEPTED = "accepted"  #: promised to the hub, no agent was started for it
    RUNNING = "running"  #: an agent is being started or works
    INTERRUPTED = "interrupted"  #: the sidecar stopped its agent in order to exit; may be started again
    CANCELLING = "cancelling"  #: the hub cancelled it; the agent is being stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One assignment. Times are seconds since the epoch; ``assigned_at`` is the hub's value, in milliseconds."""

    task_id: str
    generation: int
    description: str = ""
    metadata: dict[str, Any]
    priority: str = "normal"
    assigned_at: int | None = None
    phase: Phase = Phase.ACCEPTED
    attempt: int = 0
    started_at: float | None = None


class Journal:
    """``journal.json`` in the data folder: the task in hand or none."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "journal.json"

    def load(self) -> Task | None:
        """The task in hand at the last save.

        Raises ValueError when the file is unreadable; `set_aside` then lets the sidecar start without it.
        """
        stored = read_object(self._path)
        if stored is None or stored.get("task") is None:
            return None
        try:
            task = Task(**{**stored["task"], "phase": Phase(stored["task"]["phase"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"{self._path} does not hold a task: {error}") from error
        if not TASK_ID.match(str(task.task_id)) or not isinstance(task.generation, int):
            raise ValueError(f"{self._path} holds a task with an invalid id or generation")
        return task

    def save(self, task: Task) -> None:
        """Record the task; durable on return."""
        write_atomic(self._path, to_json({"version": 1, "task": asdict(task)}))

    def clear(self) -> None:
        """Record that no task is in hand; durable on return."""
        write_atomic(self._path, to_json({"version": 1, "task": None}))

    def set_aside(self) -> Path:
        """Move an unreadable journal out of the way, keeping it for whoever looks into it."""
        aside = self._path.with_suffix(".unreadable")
        os.replace(self._path, aside)
        return aside
