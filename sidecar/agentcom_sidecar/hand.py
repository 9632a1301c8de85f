"""The task in hand and its agent: the half of the state machine that knows nothing of the connection.

One task at a time. It is recorded before it is accepted, and its report is stored before it is cleared. Its agent is
never started twice for work that may have been done, and never while an earlier one still runs.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from agentcom_sidecar.delivery import Delivery
from agentcom_sidecar.effects import ClearTask, Effect, SaveTask, Send, StartAgent, StopAgent, StoreReport
from agentcom_sidecar.journal import Phase, Task
from agentcom_sidecar.outbox import Report, ReportKey
from agentcom_sidecar.protocol import HubError, ReportType
from agentcom_sidecar.result import Outcome

LOST_CODES = frozenset({"stale_generation", "not_owner", "not_found", "task_not_found"})
"""Answers to frames about the task in hand that put its ownership in doubt."""

FIRST_RUN = 1


@dataclass(slots=True, kw_only=True)
class Hand:
    """What is promised about one task. Times are monotonic seconds.

    ``restarted``: the task was found at the start and the hub has not spoken of it since. ``run``: the number of the
    agent that was started for it, if one works or is being stopped. ``question``: the frame that awaits an answer.
    """

    delivery: Delivery
    ack_timeout: float
    progress_interval: float
    task: Task | None = None
    run: int | None = None
    restarted: bool = False
    stopping: bool = False
    question: str | None = None
    ask_again_at: float = 0.0
    wall_clock: Callable[[], float] = time.time
    _runs: int = FIRST_RUN
    _progress_at: float = 0.0
    _log: Any = field(default_factory=structlog.get_logger)

    def holds(self, task_id: object) -> bool:
        """Whether this is the task in hand."""
        return self.task is not None and self.task.task_id == task_id

    # ---- what the hub is told while the task is in hand

    def ask(self, question: str, now: float) -> list[Effect]:
        """Send a frame about the task in hand that needs an answer; repeated until there is one."""
        self.question = question
        self.ask_again_at = now + self.ack_timeout
        extra = {"last_status": self.task.phase} if question == "task_recovering" and self.task else {}
        return [Send(self._about_task(question, **extra))]

    def tick(self, now: float) -> list[Effect]:
        """Ask again, or say that the agent still works, when it is time."""
        if self.question is not None:
            return self.ask(self.question, now) if now >= self.ask_again_at else []
        if self.task is not None and self.run is not None and not self.stopping and now >= self._progress_at:
            self._progress_at = now + self.progress_interval
            return [Send(self._about_task("task_progress"))]
        return []

    def _about_task(self, kind: str, **extra: Any) -> dict[str, Any]:
        if self.task is None:
            raise RuntimeError(f"{kind} without a task in hand")
        return {"type": kind, "task_id": self.task.task_id, "generation": self.task.generation, **extra}

    # ---- taking a task, keeping it, losing it

    def take(self, task: Task, now: float) -> list[Effect]:
        """A new task: record it, accept it, start its agent."""
        self.task, self.restarted = task, False
        self._log.info("task_received", task_id=task.task_id, generation=task.generation)
        return [SaveTask(task), *self.ask("task_accepted", now), *self.start_if_due(now)]

    def adopt(self, generation: int, now: float) -> list[Effect]:
        """The hub speaks of the task in hand: take its generation, accept again, never start twice."""
        if self.task is None or generation < self.task.generation:
            self._log.warning("stale_frame_ignored", generation=generation)
            return []
        effects: list[Effect] = []
        if generation != self.task.generation:
            self._log.info("generation_adopted", task_id=self.task.task_id, generation=generation)
            self.task = replace(self.task, generation=generation)
            effects.append(SaveTask(self.task))
        self.restarted = False
        return [*effects, *self.ask("task_accepted", now), *self.start_if_due(now)]

    def resume(self, generation: int | None, now: float) -> list[Effect]:
        """The hub lets this sidecar go on with the task in hand."""
        if self.question == "task_recovering":
            self.question = None
        if self.task is None or self.task.phase is Phase.CANCELLING:
            return []
        return self.adopt(self.task.generation if generation is None else generation, now)

    def start_if_due(self, now: float) -> list[Effect]:
        """Start the agent of a task that never had one, unless an earlier agent is still being stopped."""
        if self.task is None or self.task.phase is not Phase.ACCEPTED or self.run is not None:
            return []
        self._runs += 1
        self.run = self._runs
        self._progress_at = now + self.progress_interval
        self.task = replace(self.task, phase=Phase.RUNNING, attempt=self.task.attempt + 1, started_at=self.wall_clock())
        return [SaveTask(self.task), StartAgent(self.task, self.run)]

    def drop(self, event: str) -> list[Effect]:
        """The task is no longer ours: end its agent, report nothing."""
        if self.task is None:
            return []
        self._log.warning(event, task_id=self.task.task_id)
        task, self.task = self.task, None
        self.question = None
        return [*self._stop(), ClearTask(task)]

    def doubt(self, error: HubError, now: float) -> list[Effect]:
        """The hub refused a frame about the task in hand: ask who holds it, or give it up if that was the question."""
        task = self.task
        if task is None or error.task_id != task.task_id:
            return []
        if error.generation not in {None, task.generation}:
            return []  # About an earlier generation of it: the answer to the later one is still to come.
        if error.request == "task_recovering" and error.code in LOST_CODES | {"invalid_state"}:
            return self.drop("task_lost")
        if self.question == error.request:
            self.question = None
        return self.ask("task_recovering", now) if error.code in LOST_CODES and not self.stopping else []

    def cancel(self, generation: int | None, reason: str, now: float) -> list[Effect]:
        """The hub cancelled the task in hand: end its agent, then report that."""
        if self.task is None or self.task.phase is Phase.CANCELLING:
            return []
        if generation is not None and generation < self.task.generation:
            self._log.warning("stale_frame_ignored", task_id=self.task.task_id, generation=generation)
            return []
        self._log.info("task_cancelling", task_id=self.task.task_id, reason=reason[:256])
        self.question = None
        generation = self.task.generation if generation is None else generation
        self.task = replace(self.task, phase=Phase.CANCELLING, generation=generation)
        if self.run is None:
            return self._settle(ReportType.CANCELLED, {}, now)
        return [SaveTask(self.task), *self._stop()]

    # ---- the agent

    def _stop(self) -> list[Effect]:
        if self.run is None or self.stopping:
            return []
        self.stopping = True
        return [StopAgent(self.run)]

    def finished(self, run: int, outcome: Outcome, now: float) -> list[Effect]:
        """The agent ended by itself."""
        if run != self.run or self.stopping or self.task is None:
            return []
        self.run = None
        return self._settle(outcome.type, outcome.body, now)

    def stopped(self, run: int, now: float) -> list[Effect]:
        """The agent was ended."""
        if run != self.run:
            return []
        self.run, self.stopping = None, False
        if self.task is not None and self.task.phase is Phase.CANCELLING:
            return self._settle(ReportType.CANCELLED, {}, now)
        return self.start_if_due(now) if self.question != "task_recovering" else []

    def _settle(self, kind: ReportType, body: dict[str, Any], now: float) -> list[Effect]:
        """The task is over: the report is stored first, then the task is cleared."""
        if self.task is None:
            return []
        task, self.task = self.task, None
        self.question = None
        key = ReportKey(task.task_id, task.generation)
        self.delivery.add(key, kind)
        self._log.info(kind.value, task_id=task.task_id, generation=task.generation, error=body.get("error"))
        return [StoreReport(Report(key, kind, body)), ClearTask(task), *self.delivery.next(now)]
