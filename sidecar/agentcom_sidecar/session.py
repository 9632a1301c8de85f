"""The protocol state machine: events in, effects out; no socket, no disk, no clock in it.

The rules it keeps:

* one task in hand at a time; a task is recorded before it is accepted, and a report is stored before the task is
  cleared, so a crash between any two effects loses nothing and repeats nothing but messages;
* an agent is never started twice for a task that may have run, and never while another one still runs;
* the hub's latest generation of the task in hand is the one that every frame about it carries.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import structlog

from agentcom_sidecar.delivery import Delivery
from agentcom_sidecar.effects import (
    AgentFinished,
    AgentStopped,
    ClearTask,
    ConnectionClosed,
    Effect,
    Event,
    Exit,
    FrameReceived,
    Reconnect,
    SaveTask,
    Send,
    StartAgent,
    StopAgent,
    StoreReport,
    Tick,
)
from agentcom_sidecar.journal import Phase, Task
from agentcom_sidecar.outbox import Report, ReportKey
from agentcom_sidecar.protocol import (
    MAX_FRAME_BYTES,
    TASK_ID,
    HubError,
    ReportType,
    clean_text,
    integer,
    is_terminal_close,
    parse_error,
    refused_identity,
    terminal_sentence,
)
from agentcom_sidecar.result import Outcome

LOST_CODES = frozenset({"stale_generation", "not_owner", "not_found", "task_not_found"})
"""Answers to frames about the task in hand that put its ownership in doubt."""

FIRST_RUN = 1


class Session:
    """What the sidecar knows and promised. Times are monotonic seconds."""

    def __init__(
        self,
        delivery: Delivery,
        *,
        task: Task | None = None,
        agent_runs: bool = False,
        ack_timeout: float = 10.0,
        progress_interval: float = 30.0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """``task`` is what the journal held; ``agent_runs``: its run was found again and is watched as `FIRST_RUN`."""
        self.task = task
        self.identified = False
        self._delivery = delivery
        self._features: frozenset[str] | None = None
        self._restarted = task is not None
        self._runs = FIRST_RUN
        self._run: int | None = FIRST_RUN if agent_runs else None
        self._stopping = False
        self._question: str | None = None
        self._ask_again_at = 0.0
        self._ack_timeout = ack_timeout
        self._progress_interval = progress_interval
        self._progress_at = 0.0
        self._wall_clock = wall_clock
        self._log = structlog.get_logger()
        self._handlers: dict[str, Callable[[dict[str, Any], float], list[Effect]]] = {
            "identified": self._on_identified,
            "error": self._on_error,
            "task_assign": self._on_assign,
            "task_ack": self._on_ack,
            "task_continue": self._on_continue,
            "task_reassign": self._on_reassign,
            "task_cancel": self._on_cancel,
            "rate_limited": self._on_rate_limited,
        }

    def handle(self, event: Event, now: float) -> list[Effect]:
        """What an event calls for."""
        match event:
            case FrameReceived(frame):
                handler = self._handlers.get(str(frame.get("type")))
                if handler is None:
                    self._log.debug("unhandled_message", type=str(frame.get("type")))
                    return []
                return handler(frame, now)
            case ConnectionClosed(code, reason):
                return self._on_closed(code, reason)
            case AgentFinished(run, outcome):
                return self._on_finished(run, outcome, now)
            case AgentStopped(run):
                return self._on_stopped(run, now)
            case Tick():
                return self._on_tick(now)

    # ---- the connection

    def _on_identified(self, frame: dict[str, Any], now: float) -> list[Effect]:
        features = frame.get("features")
        self._features = frozenset(map(str, features)) if isinstance(features, list) else None
        self.identified = True
        limit = integer(frame, "max_frame_bytes")
        self._delivery.connected(max_bytes=limit if limit and limit >= 1024 else MAX_FRAME_BYTES)
        self._log.info("identified", hub_features=sorted(self._features or ()))
        effects: list[Effect] = []
        if self.task is not None and (self._features is not None or self._restarted):
            effects += self._ask("task_recovering", now)
        return effects + self._delivery.next(now)

    def _on_closed(self, code: int, reason: str) -> list[Effect]:
        self.identified = False
        self._question = None
        self._delivery.disconnected()
        return [Exit(terminal_sentence(code, reason))] if is_terminal_close(code) else []

    def _on_tick(self, now: float) -> list[Effect]:
        if not self.identified:
            return []
        effects = self._delivery.tick(now)
        if self._question is not None:
            return effects + (self._ask(self._question, now) if now >= self._ask_again_at else [])
        if self.task is not None and self._working and now >= self._progress_at:
            self._progress_at = now + self._progress_interval
            effects.append(Send(self._about_task("task_progress")))
        return effects

    @property
    def _working(self) -> bool:
        return self._run is not None and not self._stopping

    def _ask(self, question: str, now: float) -> list[Effect]:
        """Send a frame about the task in hand that needs an answer; repeated until there is one."""
        self._question = question
        self._ask_again_at = now + self._ack_timeout
        extra = {"last_status": self.task.phase} if question == "task_recovering" and self.task else {}
        return [Send(self._about_task(question, **extra))]

    def _about_task(self, kind: str, **extra: Any) -> dict[str, Any]:
        if self.task is None:
            raise RuntimeError(f"{kind} without a task in hand")
        return {"type": kind, "task_id": self.task.task_id, "generation": self.task.generation, **extra}

    # ---- assignments

    def _on_assign(self, frame: dict[str, Any], now: float) -> list[Effect]:
        task_id, generation = frame.get("task_id"), integer(frame, "generation") or 0
        if not isinstance(task_id, str) or not TASK_ID.match(task_id):
            self._log.error("task_invalid", task_id=str(task_id)[:200])
            return self._reject(str(task_id)[:128], generation, "invalid_task_id")
        if self.task is not None and self.task.task_id == task_id and self.task.phase is not Phase.CANCELLING:
            return self._adopt(generation, now)
        if self.task is not None:
            self._log.warning("task_rejected", task_id=task_id, reason="busy", active_task_id=self.task.task_id)
            return self._reject(task_id, generation, "busy")
        finished = self._delivery.reassigned(task_id, generation)
        if finished is not None:
            self._log.info("task_already_finished", task_id=task_id, generation=generation)
            accept = Send({"type": "task_accepted", "task_id": task_id, "generation": generation})
            return [*finished, accept, *self._delivery.next(now)]
        metadata = frame.get("metadata")
        task = Task(
            task_id=task_id,
            generation=generation,
            description=clean_text(frame.get("description")),
            metadata=metadata if isinstance(metadata, dict) else {},
            assigned_at=integer(frame, "assigned_at"),
        )
        self.task = task
        self._restarted = False
        self._log.info("task_received", task_id=task_id, generation=generation)
        return [SaveTask(task), *self._ask("task_accepted", now), *self._start_if_due(now)]

    def _adopt(self, generation: int, now: float) -> list[Effect]:
        """The hub speaks of the task in hand: take its generation, accept again, never start twice."""
        if self.task is None or generation < self.task.generation:
            self._log.warning("stale_frame_ignored", generation=generation)
            return []
        effects: list[Effect] = []
        if generation != self.task.generation:
            self._log.info("generation_adopted", task_id=self.task.task_id, generation=generation)
            self.task = replace(self.task, generation=generation)
            effects.append(SaveTask(self.task))
        self._restarted = False
        return [*effects, *self._ask("task_accepted", now), *self._start_if_due(now)]

    def _start_if_due(self, now: float) -> list[Effect]:
        """Start the agent of a task that never had one, unless an earlier agent is still being stopped."""
        if self.task is None or self.task.phase is not Phase.ACCEPTED or self._run is not None:
            return []
        self._runs += 1
        self._run = self._runs
        self._progress_at = now + self._progress_interval
        self.task = replace(
            self.task, phase=Phase.RUNNING, attempt=self.task.attempt + 1, started_at=self._wall_clock()
        )
        return [SaveTask(self.task), StartAgent(self.task, self._run)]

    def _reject(self, task_id: str, generation: int, reason: str) -> list[Effect]:
        """An older hub takes the frame for a violation and would cut the connection after ten of them."""
        if "reject" not in (self._features or ()):
            return []
        return [Send({"type": "task_rejected", "task_id": task_id, "reason": reason, "generation": generation})]

    # ---- recovery

    def _on_continue(self, frame: dict[str, Any], now: float) -> list[Effect]:
        task_id, generation = str(frame.get("task_id")), integer(frame, "generation")
        if self.task is not None and self.task.task_id == task_id:
            if self._question == "task_recovering":
                self._question = None
            if self.task.phase is Phase.CANCELLING:
                return []
            return self._adopt(self.task.generation if generation is None else generation, now)
        key = self._delivery.find(task_id, ReportType.COMPLETE, ReportType.FAILED)
        if key is not None and generation is not None:
            return [*self._delivery.renumber(key, generation), *self._delivery.next(now)]
        self._log.debug("recovery_continue_ignored", task_id=task_id)
        return []

    def _on_reassign(self, frame: dict[str, Any], _now: float) -> list[Effect]:
        if self.task is None or frame.get("task_id") != self.task.task_id:
            self._log.debug("recovery_reassign_ignored", task_id=str(frame.get("task_id")))
            return []
        if self.task.phase is Phase.CANCELLING:
            return []  # A cancelled task is given to nobody; the hub waits for the word that its agent has ended.
        return self._drop_task("recovery_reassigned")

    def _drop_task(self, event: str) -> list[Effect]:
        """The task is no longer ours: end its agent, report nothing."""
        if self.task is None:
            return []
        self._log.warning(event, task_id=self.task.task_id)
        task, self.task = self.task, None
        self._question = None
        return [*self._stop(), ClearTask(task)]

    def _stop(self) -> list[Effect]:
        if self._run is None or self._stopping:
            return []
        self._stopping = True
        return [StopAgent(self._run)]

    def _on_cancel(self, frame: dict[str, Any], now: float) -> list[Effect]:
        task_id, generation = str(frame.get("task_id")), integer(frame, "generation")
        if self.task is None or self.task.task_id != task_id:
            if self._delivery.find(task_id, *ReportType) is not None:
                return []  # It ended before; the report about that is on its way and answers the hub.
            self._log.info("cancel_not_held", task_id=task_id[:128])
            return [Send({"type": ReportType.CANCELLED, "task_id": task_id, "generation": generation or 0})]
        if generation is not None and generation < self.task.generation:
            self._log.warning("stale_frame_ignored", task_id=task_id, generation=generation)
            return []
        if self.task.phase is Phase.CANCELLING:
            return []
        self._log.info("task_cancelling", task_id=task_id, reason=str(frame.get("reason"))[:256])
        self._question = None
        generation = self.task.generation if generation is None else generation
        self.task = replace(self.task, phase=Phase.CANCELLING, generation=generation)
        if self._run is None:
            return self._settle(ReportType.CANCELLED, {}, now)
        return [SaveTask(self.task), *self._stop()]

    # ---- the agent

    def _on_finished(self, run: int, outcome: Outcome, now: float) -> list[Effect]:
        if run != self._run or self._stopping or self.task is None:
            return []
        self._run = None
        return self._settle(outcome.type, outcome.body, now)

    def _on_stopped(self, run: int, now: float) -> list[Effect]:
        if run != self._run:
            return []
        self._run, self._stopping = None, False
        if self.task is not None and self.task.phase is Phase.CANCELLING:
            return self._settle(ReportType.CANCELLED, {}, now)
        return self._start_if_due(now) if self._question != "task_recovering" else []

    def _settle(self, kind: ReportType, body: dict[str, Any], now: float) -> list[Effect]:
        """The task is over: the report is stored first, then the task is cleared."""
        if self.task is None:
            return []
        task, self.task = self.task, None
        self._question = None
        key = ReportKey(task.task_id, task.generation)
        self._delivery.add(key, kind)
        self._log.info(kind.value, task_id=task.task_id, generation=task.generation, error=body.get("error"))
        return [StoreReport(Report(key, kind, body)), ClearTask(task), *self._delivery.next(now)]

    # ---- answers

    def _on_ack(self, frame: dict[str, Any], now: float) -> list[Effect]:
        task_id, status = str(frame.get("task_id")), frame.get("status")
        self._log.debug("task_ack", task_id=task_id, status=status)
        if status == "accepted":
            if self.task is not None and self.task.task_id == task_id and self._question == "task_accepted":
                self._question = None
            return []
        if status == "rejected":
            return []
        return self._delivery.acknowledged(task_id, integer(frame, "generation"), now)

    def _on_error(self, frame: dict[str, Any], now: float) -> list[Effect]:
        error = parse_error(frame)
        self._log.warning("hub_error", **asdict(error))
        if not self.identified:
            sentence = refused_identity(frame, error)
            return [Exit(sentence)] if sentence else []
        if error.code == "not_identified":
            return [Reconnect("the hub no longer knows this connection")]
        if error.about_report:
            return self._delivery.answered_with_error(error, now)
        return self._doubt(error, now)

    def _doubt(self, error: HubError, now: float) -> list[Effect]:
        """The hub refused a frame about the task in hand: ask who holds it, or give it up if that was the question."""
        task = self.task
        if task is None or error.task_id != task.task_id:
            return []
        if error.generation not in {None, task.generation}:
            return []  # About an earlier generation of it: the answer to the later one is still to come.
        if error.request == "task_recovering" and error.code in LOST_CODES | {"invalid_state"}:
            return self._drop_task("task_lost")
        if self._question == error.request:
            self._question = None
        return self._ask("task_recovering", now) if error.code in LOST_CODES and not self._stopping else []

    def _on_rate_limited(self, frame: dict[str, Any], now: float) -> list[Effect]:
        delay = max(integer(frame, "retry_after_ms") or 1000, 50) / 1000
        self._log.warning("rate_limited", tier=frame.get("tier"), retry_after_seconds=delay)
        if frame.get("tier") in (None, "normal"):
            self._delivery.rate_limited(delay, now)
            self._ask_again_at = min(self._ask_again_at, now + delay)
        return []
