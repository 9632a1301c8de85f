"""The protocol state machine: events in, effects out; no socket, no disk, no clock in it.

The rules it keeps:

* one task in hand at a time; a task is recorded before it is accepted, and a report is stored before the task is
  cleared, so a crash between any two effects loses nothing and repeats nothing but messages;
* an agent is never started twice for a task that may have run, and never while another one still runs;
* the hub's latest generation of the task in hand is the one that every frame about it carries.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import structlog

from agentcom_sidecar.delivery import Delivery
from agentcom_sidecar.effects import (
    AgentFinished,
    AgentStopped,
    ConnectionClosed,
    Effect,
    Event,
    Exit,
    FrameReceived,
    Reconnect,
    Send,
    Tick,
)
from agentcom_sidecar.hand import FIRST_RUN, Hand
from agentcom_sidecar.journal import Phase, Task
from agentcom_sidecar.protocol import (
    MAX_FRAME_BYTES,
    TASK_ID,
    ReportType,
    clean_text,
    integer,
    is_terminal_close,
    parse_error,
    priority_name,
    refused_identity,
    terminal_sentence,
)


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
        self.identified = False
        self._delivery = delivery
        self._features: frozenset[str] | None = None
        self._hand = Hand(
            delivery=delivery,
            ack_timeout=ack_timeout,
            progress_interval=progress_interval,
            task=task,
            run=FIRST_RUN if agent_runs else None,
            restarted=task is not None,
            wall_clock=wall_clock,
        )
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

    @property
    def task(self) -> Task | None:
        """The task in hand."""
        return self._hand.task

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
                return self._hand.finished(run, outcome, now)
            case AgentStopped(run):
                return self._hand.stopped(run, now)
            case Tick():
                return [*self._delivery.tick(now), *self._hand.tick(now)] if self.identified else []

    # ---- the connection

    def _on_identified(self, frame: dict[str, Any], now: float) -> list[Effect]:
        features = frame.get("features")
        self._features = frozenset(map(str, features)) if isinstance(features, list) else None
        self.identified = True
        limit = integer(frame, "max_frame_bytes")
        self._delivery.connected(max_bytes=limit if limit and limit >= 1024 else MAX_FRAME_BYTES)
        self._log.info("identified", hub_features=sorted(self._features or ()))
        effects: list[Effect] = []
        if self._hand.task is not None and (self._features is not None or self._hand.restarted):
            effects += self._hand.ask("task_recovering", now)
        return effects + self._delivery.next(now)

    def _on_closed(self, code: int, reason: str) -> list[Effect]:
        self.identified = False
        self._hand.question = None
        self._delivery.disconnected()
        return [Exit(terminal_sentence(code, reason))] if is_terminal_close(code) else []

    def _on_rate_limited(self, frame: dict[str, Any], now: float) -> list[Effect]:
        delay = max(integer(frame, "retry_after_ms") or 1000, 50) / 1000
        self._log.warning("rate_limited", tier=frame.get("tier"), retry_after_seconds=delay)
        if frame.get("tier") in (None, "normal"):
            self._delivery.rate_limited(delay, now)
            self._hand.ask_again_at = min(self._hand.ask_again_at, now + delay)
        return []

    # ---- assignments

    def _on_assign(self, frame: dict[str, Any], now: float) -> list[Effect]:
        task_id, generation = frame.get("task_id"), integer(frame, "generation") or 0
        if not isinstance(task_id, str) or not TASK_ID.match(task_id):
            self._log.error("task_invalid", task_id=str(task_id)[:200])
            return self._reject(str(task_id)[:128], generation, "invalid_task_id")
        held = self._hand.task
        if held is not None and held.task_id == task_id and held.phase is not Phase.CANCELLING:
            return self._hand.adopt(generation, now)
        if held is not None:
            self._log.warning("task_rejected", task_id=task_id, reason="busy", active_task_id=held.task_id)
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
            priority=priority_name(frame),
            assigned_at=integer(frame, "assigned_at"),
        )
        return self._hand.take(task, now)

    def _reject(self, task_id: str, generation: int, reason: str) -> list[Effect]:
        """An older hub takes the frame for a violation and would cut the connection after ten of them."""
        if "reject" not in (self._features or ()):
            return []
        return [Send({"type": "task_rejected", "task_id": task_id, "reason": reason, "generation": generation})]

    # ---- recovery and cancelling

    def _on_continue(self, frame: dict[str, Any], now: float) -> list[Effect]:
        task_id, generation = str(frame.get("task_id")), integer(frame, "generation")
        if self._hand.holds(task_id):
            return self._hand.resume(generation, now)
        key = self._delivery.find(task_id, ReportType.COMPLETE, ReportType.FAILED)
        if key is not None and generation is not None:
            return [*self._delivery.renumber(key, generation), *self._delivery.next(now)]
        self._log.debug("recovery_continue_ignored", task_id=task_id)
        return []

    def _on_reassign(self, frame: dict[str, Any], _now: float) -> list[Effect]:
        task = self._hand.task
        if task is None or frame.get("task_id") != task.task_id:
            self._log.debug("recovery_reassign_ignored", task_id=str(frame.get("task_id")))
            return []
        if task.phase is Phase.CANCELLING:
            return []  # A cancelled task is given to nobody; the hub waits for the word that its agent has ended.
        return self._hand.drop("recovery_reassigned")

    def _on_cancel(self, frame: dict[str, Any], now: float) -> list[Effect]:
        task_id, generation = str(frame.get("task_id")), integer(frame, "generation")
        if self._hand.holds(task_id):
            return self._hand.cancel(generation, str(frame.get("reason")), now)
        if self._delivery.find(task_id, *ReportType) is not None:
            return []  # It ended before; the report about that is on its way and answers the hub.
        self._log.info("cancel_not_held", task_id=task_id[:128])
        return [Send({"type": ReportType.CANCELLED, "task_id": task_id, "generation": generation or 0})]

    # ---- answers

    def _on_ack(self, frame: dict[str, Any], now: float) -> list[Effect]:
        task_id, status = str(frame.get("task_id")), frame.get("status")
        self._log.debug("task_ack", task_id=task_id, status=status)
        if status == "accepted":
            if self._hand.holds(task_id) and self._hand.question == "task_accepted":
                self._hand.question = None
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
        return self._hand.doubt(error, now)
