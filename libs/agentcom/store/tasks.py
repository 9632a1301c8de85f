"""Tasks in the store: one method per transition, typed in and out. The scripts decide; this module only translates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import orjson

from agentcom.domain.signature import signature
from agentcom.domain.tasks import NewTask, TaskId, TaskStatus
from agentcom.errors import (
    AgentComError,
    IdempotencyConflict,
    InvalidState,
    NotCancelling,
    NotOwner,
    NotSubmitter,
    StaleGeneration,
    TaskNotFound,
)
from agentcom.settings import TaskLimits
from agentcom.store.scripts import Argument, Reply, Scripts, new_call_id

#: Items of one script call; a larger bulk is split, so that no call holds Redis up for long.
SUBMIT_CHUNK = 100

AcceptOrProgress = Literal["accept", "progress"]
ExpiresOrCompleteBy = Literal["expires", "complete_by"]
FinishedOrDead = Literal["finished", "dead"]


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of one submitted task. ``repeated``: it had been stored before (same idempotency key and body)."""

    task_id: TaskId
    status: str
    priority: int
    created_at: int
    repeated: bool


@dataclass(frozen=True, slots=True)
class Report:
    """What became of an agent's report.

    ``outcome`` is the status of the ``task_ack``. ``next_frame`` is a ``task_assign`` frame to be written to the
    reporting connection after that ack, if the agent was given its next task.
    """

    outcome: str
    repeated: bool
    next_frame: bytes | None


@dataclass(frozen=True, slots=True)
class Swept:
    """How many deadlines one sweep served, and whether more are due."""

    served: int
    more: bool


@dataclass(frozen=True, slots=True)
class TaskCounts:
    """Tasks by place and priority, at one moment."""

    submitted: int
    pruned: int
    by_status: dict[TaskStatus, tuple[int, int, int, int]]

    def total(self, status: TaskStatus) -> int:
        return sum(self.by_status[status])

    @property
    def unaccounted(self) -> int:
        """Submitted tasks that are nowhere. Anything but 0 is a defect."""
        return self.submitted - self.pruned - sum(self.total(status) for status in self.by_status)


def refusal(reply: Reply, task_id: str) -> AgentComError:
    """The error for a refused transition of a task."""
    match reply.code:
        case "NOT_FOUND":
            return TaskNotFound(task_id=task_id)
        case "INVALID_STATE":
            status = reply.text(0)
            return InvalidState(f"The task is {status}, which does not allow this.", task_id=task_id, status=status)
        case "STALE_GENERATION":
            return StaleGeneration(task_id=task_id, current=reply.number(0))
        case "NOT_OWNER":
            return NotOwner(task_id=task_id)
        case "NOT_SUBMITTER":
            return NotSubmitter(task_id=task_id)
        case "NOT_CANCELLING":
            return NotCancelling(task_id=task_id)
    return AgentComError(f"unexpected code {reply.code}", task_id=task_id)


def _optional(value: int | str | None) -> Argument:
    return "" if value is None else value


class TaskStore:
    """Every transition of a task. Refused ones raise the errors of :func:`refusal`."""

    def __init__(self, scripts: Scripts, limits: TaskLimits) -> None:
        self._scripts = scripts
        self._limits = limits

    async def submit(self, task: NewTask) -> Submission:
        """Stores a task and, if a capable agent waits, assigns it in the same step.

        Raises :class:`IdempotencyConflict` if the key was used with another body.
        """
        result = (await self._submit_chunk([task]))[0]
        if isinstance(result, IdempotencyConflict):
            raise result
        return result

    async def submit_many(self, tasks: Sequence[NewTask]) -> list[Submission | IdempotencyConflict]:
        """Stores tasks in order; the results are in the same order."""
        results: list[Submission | IdempotencyConflict] = []
        for start in range(0, len(tasks), SUBMIT_CHUNK):
            results += await self._submit_chunk(tasks[start : start + SUBMIT_CHUNK])
        return results

    async def _submit_chunk(self, tasks: Sequence[NewTask]) -> list[Submission | IdempotencyConflict]:
        reply = await self._scripts.call(
            "task/submit",
            items=[self._submission_fields(task) for task in tasks],
            accept_timeout_ms=self._limits.accept_timeout_ms,
            priority_window_ms=self._limits.priority_window_ms,
            idempotency_ttl_ms=self._limits.idempotency_ttl_ms,
        )
        results: list[Submission | IdempotencyConflict] = []
        for index, task in enumerate(tasks):
            outcome, task_id = reply.text(5 * index), TaskId(reply.text(5 * index + 1))
            if outcome == "conflict":
                results.append(IdempotencyConflict(task_id=task_id))
                continue
            # A repeated id is this very call sent twice: its caller has never seen the first answer.
            repeated = outcome == "repeated" and task_id != task.id
            results.append(
                Submission(
                    task_id=task_id,
                    status=reply.text(5 * index + 2),
                    priority=reply.number(5 * index + 3),
                    created_at=reply.number(5 * index + 4),
                    repeated=repeated,
                )
            )
        return results

    def _submission_fields(self, task: NewTask) -> dict[str, Argument]:
        limits = self._limits
        max_runtime = task.max_runtime_ms if task.max_runtime_ms is not None else limits.default_max_runtime_ms
        return {
            "id": task.id,
            "description": task.description,
            "metadata": task.metadata,
            "priority": int(task.priority),
            "signature": signature(task.needed_capabilities, target_agent=task.target_agent),
            "capabilities": orjson.dumps(task.needed_capabilities),
            "target_agent": _optional(task.target_agent),
            "max_retries": limits.default_max_retries if task.max_retries is None else task.max_retries,
            "max_deliveries": limits.default_max_deliveries if task.max_deliveries is None else task.max_deliveries,
            "retry_backoff_ms": (
                limits.default_retry_backoff_ms if task.retry_backoff_ms is None else task.retry_backoff_ms
            ),
            "max_runtime_ms": max_runtime or "",
            "complete_by": _optional(task.complete_by),
            "run_at": _optional(task.run_at),
            "expires_at": _optional(task.expires_at),
            "submitted_by": task.submitted_by,
            "idempotency_digest": _optional(task.idempotency_digest),
            "body_digest": _optional(task.body_digest),
        }

    async def accept(self, task_id: str, agent_id: str, *, generation: int | None) -> int:
        """The agent has the task. Returns the current generation."""
        reply = await self._scripts.call(
            "task/accept",
            task_id=task_id,
            agent_id=agent_id,
            generation=_optional(generation),
            progress_timeout_ms=self._limits.progress_timeout_ms,
        )
        if reply.code != "OK":
            raise refusal(reply, task_id)
        return reply.number(0)

    async def progress(self, task_id: str, agent_id: str, *, generation: int | None, progress: int | None) -> int:
        """The agent works on the task; ``progress`` is its own number. Returns the current generation."""
        reply = await self._scripts.call(
            "task/progress",
            task_id=task_id,
            agent_id=agent_id,
            generation=_optional(generation),
            progress=_optional(progress),
            progress_timeout_ms=self._limits.progress_timeout_ms,
        )
        if reply.code != "OK":
            raise refusal(reply, task_id)
        return reply.number(0)

    async def complete(
        self, task_id: str, agent_id: str, *, conn: str, generation: int, result: bytes, tokens_used: int | None
    ) -> Report:
        """The agent has done the task. ``result`` is JSON text and is stored as it is."""
        reply = await self._scripts.call(
            "task/complete",
            task_id=task_id,
            agent_id=agent_id,
            conn=conn,
            generation=generation,
            result=result,
            tokens_used=_optional(tokens_used),
            accept_timeout_ms=self._limits.accept_timeout_ms,
        )
        return self._report(reply, task_id)

    async def fail(self, task_id: str, agent_id: str, *, conn: str, generation: int, reason: str) -> Report:
        """The agent could not do the task. The outcome is ``retried``, ``dead_letter`` or ``cancelled``."""
        reply = await self._scripts.call(
            "task/fail",
            task_id=task_id,
            agent_id=agent_id,
            conn=conn,
            generation=generation,
            reason=reason,
            backoff_cap_ms=self._limits.retry_backoff_cap_ms,
            accept_timeout_ms=self._limits.accept_timeout_ms,
        )
        return self._report(reply, task_id)

    async def confirm_cancel(self, task_id: str, agent_id: str, *, conn: str, generation: int) -> Report:
        """The agent has stopped working on a task whose cancel was asked for."""
        reply = await self._scripts.call(
            "task/confirm_cancel",
            task_id=task_id,
            agent_id=agent_id,
            conn=conn,
            generation=generation,
            accept_timeout_ms=self._limits.accept_timeout_ms,
        )
        return self._report(reply, task_id)

    @staticmethod
    def _report(reply: Reply, task_id: str) -> Report:
        if reply.code != "OK":
            raise refusal(reply, task_id)
        return Report(outcome=reply.text(1), repeated=reply.text(0) == "repeat", next_frame=reply.raw(2) or None)

    async def reject(self, task_id: str, agent_id: str, *, generation: int | None, reason: str) -> int:
        """The agent does not take the task now. Returns the milliseconds it will be left alone."""
        reply = await self._scripts.call(
            "task/reject",
            call_id=new_call_id(),
            task_id=task_id,
            agent_id=agent_id,
            generation=_optional(generation),
            reason=reason,
            cooldown_ms=self._limits.reject_cooldown_ms,
            cooldown_cap_ms=self._limits.reject_cooldown_cap_ms,
        )
        if reply.code != "OK":
            raise refusal(reply, task_id)
        return reply.number(0)

    async def recover(self, task_id: str, agent_id: str) -> int | None:
        """Whether a returning agent still holds a task: its generation, or None if it must drop it."""
        reply = await self._scripts.call(
            "task/recover",
            task_id=task_id,
            agent_id=agent_id,
            progress_timeout_ms=self._limits.progress_timeout_ms,
        )
        return reply.number(1) if reply.text(0) == "continue" else None

    async def cancel(self, task_id: str, *, requester: str, privileged: bool, reason: str) -> str:
        """Ends a task on request; ``privileged`` requesters may end those of others.

        Returns ``cancelled``, or ``cancelling`` while its agent is asked to stop.
        """
        reply = await self._scripts.call(
            "task/cancel",
            task_id=task_id,
            requester=requester,
            privileged=int(privileged),
            reason=reason,
            cancel_timeout_ms=self._limits.cancel_timeout_ms,
        )
        if reply.code != "OK":
            raise refusal(reply, task_id)
        return reply.text(0)

    async def retry(self, task_id: str) -> int:
        """Puts a dead letter back into its queue. Returns its priority."""
        reply = await self._scripts.call("task/retry", call_id=new_call_id(), task_id=task_id)
        if reply.code != "OK":
            raise refusal(reply, task_id)
        return reply.number(0)

    async def reclaim(self, kind: AcceptOrProgress, *, limit: int) -> Swept:
        """Takes back tasks whose accept or progress deadline has come."""
        grace = self._limits.return_grace_ms
        return self._swept(await self._scripts.call("task/reclaim", kind=kind, limit=limit, return_grace_ms=grace))

    async def overrun(self, *, limit: int) -> Swept:
        """Fails attempts that ran past their ``max_runtime_ms``."""
        reply = await self._scripts.call(
            "task/overrun",
            limit=limit,
            backoff_cap_ms=self._limits.retry_backoff_cap_ms,
            return_grace_ms=self._limits.return_grace_ms,
        )
        return self._swept(reply)

    async def expire(self, kind: ExpiresOrCompleteBy, *, limit: int) -> Swept:
        """Moves tasks whose time is over to the dead letters."""
        return self._swept(await self._scripts.call("task/expire", kind=kind, limit=limit))

    async def end_cancel(self, *, limit: int) -> Swept:
        """Ends cancelled tasks whose agents did not answer in time."""
        return self._swept(await self._scripts.call("task/end_cancel", limit=limit))

    async def promote(self, *, limit: int) -> Swept:
        """Queues delayed tasks whose time has come."""
        return self._swept(await self._scripts.call("task/promote", limit=limit))

    async def prune(self, kind: FinishedOrDead, *, limit: int) -> Swept:
        """Removes finished tasks, or dead letters, that are too old or too many."""
        limits = self._limits
        dead = kind == "dead"
        reply = await self._scripts.call(
            "task/prune",
            kind=kind,
            max_age_ms=limits.dead_max_age_ms if dead else limits.finished_max_age_ms,
            max_count=limits.dead_max_count if dead else limits.finished_max_count,
            limit=limit,
        )
        return self._swept(reply)

    @staticmethod
    def _swept(reply: Reply) -> Swept:
        return Swept(served=reply.number(0), more=reply.number(1) == 1)

    async def counts(self) -> TaskCounts:
        """Every place's size, at one moment."""
        reply = await self._scripts.call("task/counts")
        numbers = [reply.number(index) for index in range(len(reply.fields))]
        by_status = {
            status: (numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3])
            for status, at in zip(TaskStatus, range(2, len(numbers), 4), strict=True)
        }
        return TaskCounts(submitted=numbers[0], pruned=numbers[1], by_status=by_status)
