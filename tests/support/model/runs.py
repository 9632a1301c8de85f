"""The model's runs: from an assignment to its end, and the agents that make them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from agentcom.domain.tasks import TaskStatus
from tests.support.model.queues import Queues
from tests.support.model.records import Answer, ModelAgent, ModelTask, Refused

UNRESPONSIVE_PENALTY: Final = 10**13


class Runs(Queues):
    """What agents do, and what becomes of their tasks."""

    # -- the end of a run ---------------------------------------------------------------------------------------------

    def _leave_assigned(self, task: ModelTask) -> None:
        for kind in ("accept", "progress", "runtime", "cancel"):
            task.due.pop(kind, None)

    def _finish(self, task: ModelTask, status: TaskStatus) -> None:
        task.status, task.finished_at, task.updated_at = status, self.now, self.now
        task.due.clear()
        self._refile()

    def _bury(self, task: ModelTask, reason: str) -> None:
        task.last_error = reason
        self._finish(task, TaskStatus.DEAD_LETTER)

    def _requeue(self, task: ModelTask, delay: int = 0) -> None:
        task.generation += 1
        task.assigned_to = task.assigned_at = task.accepted_at = task.progress = None
        task.updated_at = self.now
        if task.expires_at is not None:
            task.due["expires"] = task.expires_at
        if delay > 0:
            task.status = TaskStatus.DELAYED
            task.due["delayed"] = self.now + delay
        else:
            task.status = TaskStatus.QUEUED
            self.requests.append(("signature", task.signature))
        self._refile()

    def _lose(self, task: ModelTask, reason: str) -> None:
        """A delivery that nobody answers for."""
        self._leave_assigned(task)
        if task.cancelling_since is not None:
            self._finish(task, TaskStatus.CANCELLED)
            return
        task.delivery_count += 1
        if task.delivery_count >= (task.spec.max_deliveries or self.limits.default_max_deliveries):
            self._bury(task, f"max_deliveries: {reason}")
        else:
            self._requeue(task)

    def _fail(self, task: ModelTask, reason: str) -> str:
        self._leave_assigned(task)
        if task.cancelling_since is not None:
            self._finish(task, TaskStatus.CANCELLED)
            return "cancelled"
        task.retry_count += 1
        if task.retry_count >= (3 if task.spec.max_retries is None else task.spec.max_retries):
            self._bury(task, reason)
            return "dead_letter"
        task.last_error = reason
        base = (
            self.limits.default_retry_backoff_ms if task.spec.retry_backoff_ms is None else task.spec.retry_backoff_ms
        )
        full = min(base * 2 ** (task.retry_count - 1), self.limits.retry_backoff_cap_ms)
        self._requeue(task, int(full / 2 + full / 2 * (self.now_us % 1_000 / 1_000)))
        return "retried"

    # -- agents -------------------------------------------------------------------------------------------------------

    def _make_idle(self, agent: ModelAgent) -> None:
        agent.state, agent.task, agent.generation, agent.unblock = "idle", None, None, None
        agent.idle_score = self.now + (UNRESPONSIVE_PENALTY if agent.unresponsive else 0)

    def _release(self, agent_id: str | None, task_id: str, *, lost: bool) -> None:
        """Its task was taken from it."""
        agent = self.agents.get(agent_id or "")
        if agent is None or agent.task != task_id:
            return
        if agent.state == "offline":
            del self.agents[agent.id]
            return
        agent.unresponsive = agent.unresponsive or lost
        self._make_idle(agent)
        self.requests.append(("agent", agent.id))

    def _unblock(self, agent_id: str) -> None:
        agent = self.agents.get(agent_id)
        if agent is not None and agent.state == "blocked":
            self._make_idle(agent)
            self.requests.append(("agent", agent_id))

    def connect(
        self, agent_id: str, *, conn: str, gateway: str, capabilities: Iterable[str], sends_progress: bool
    ) -> tuple[str | None, bool]:
        """What is pushed again: an assignment, a cancel."""
        if self.gateways.get(gateway, 0) <= self.now:
            raise Refused("gateway_lease_lost")
        before = self.agents.get(agent_id)
        agent = ModelAgent(
            id=agent_id,
            conn=conn,
            gateway=gateway,
            capabilities=tuple(sorted(set(capabilities))),
            sends_progress=sends_progress,
            state="idle",
            seen=self.now,
            unresponsive=before.unresponsive if before else False,
        )
        self.agents[agent_id] = agent
        if before is None or before.task is None:
            self._make_idle(agent)
            self.requests.append(("agent", agent_id))
            return None, False
        task = self.tasks[before.task]
        agent.task, agent.generation = before.task, before.generation
        agent.state = "assigned" if task.accepted_at is None else "working"
        if task.accepted_at is not None:
            task.due["progress"] = self.now + self.limits.progress_timeout_ms
        return (before.task if task.accepted_at is None else None), task.cancelling_since is not None

    def disconnect(self, agent_id: str, conn: str) -> bool:
        agent = self.agents.get(agent_id)
        if agent is None or agent.conn != conn:
            return False
        self._drop(agent)
        return True

    def _drop(self, agent: ModelAgent) -> None:
        if agent.task is None:
            del self.agents[agent.id]
            return
        agent.state, agent.conn, agent.gateway, agent.unblock = "offline", None, None, None
        agent.grace = self.now + self.limits.disconnect_grace_ms
        due = self.tasks[agent.task].due
        if "progress" in due:
            due["progress"] = max(due["progress"], agent.grace)

    def heartbeat(self, agent_id: str, conn: str) -> None:
        agent = self.agents.get(agent_id)
        if agent is None or agent.conn != conn:
            raise Refused("connection_replaced")
        agent.seen = self.now
        if agent.state == "working" and not agent.sends_progress:
            self.tasks[agent.task or ""].due["progress"] = self.now + self.limits.progress_timeout_ms

    # -- frames about one task ----------------------------------------------------------------------------------------

    def _held(self, task_id: str, agent_id: str, generation: int | None) -> ModelTask:
        task = self.tasks.get(task_id)
        if task is None:
            raise Refused("task_not_found")
        if task.status is not TaskStatus.ASSIGNED:
            raise Refused("invalid_state")
        if generation is not None and generation != task.generation:
            raise Refused("stale_generation")
        if task.assigned_to != agent_id:
            raise Refused("not_owner")
        return task

    def accept(self, task_id: str, agent_id: str, generation: int | None) -> int:
        task = self._held(task_id, agent_id, generation)
        self._accept(task, self.agents[agent_id])
        return task.generation

    def _accept(self, task: ModelTask, agent: ModelAgent) -> None:
        task.due["progress"] = self.now + self.limits.progress_timeout_ms
        task.updated_at = self.now
        if task.accepted_at is not None:
            return
        del task.due["accept"]
        task.accepted_at = self.now
        runtime = task.spec.max_runtime_ms
        if runtime is None:
            runtime = self.limits.default_max_runtime_ms
        if runtime:
            task.due["runtime"] = self.now + runtime
        agent.unresponsive, agent.rejections = False, 0
        if agent.state != "offline":
            agent.state = "working"

    def progress(self, task_id: str, agent_id: str, generation: int | None, progress: int) -> int:
        current = self.accept(task_id, agent_id, generation)
        self.tasks[task_id].progress = progress
        return current

    def recover(self, task_id: str, agent_id: str) -> int | None:
        try:
            task = self._held(task_id, agent_id, None)
        except Refused:
            self._unblock(agent_id)
            return None
        if task.cancelling_since is not None:
            self._unblock(agent_id)
            return None
        self._accept(task, self.agents[agent_id])
        return task.generation

    def report(self, kind: str, task_id: str, agent_id: str, conn: str, generation: int) -> Answer:
        """``kind`` is complete, fail or cancel."""
        known = self.tasks[task_id].reports.get(generation) if task_id in self.tasks else None
        if known is not None and (known[0], known[2]) == (kind, agent_id):
            agent = self.agents.get(agent_id)
            pending = agent.task if agent and agent.state == "assigned" and agent.conn == conn else None
            return Answer(known[1], repeated=True, next_task=pending)
        try:
            task = self._held(task_id, agent_id, generation)
        except Refused:
            self._unblock(agent_id)
            raise
        if kind == "complete":
            self._leave_assigned(task)
            self._finish(task, TaskStatus.COMPLETED)
            task.result, outcome = '"done"', "complete"
        elif kind == "fail":
            outcome = self._fail(task, "it broke")
        elif task.cancelling_since is None:
            raise Refused("not_cancelling")
        else:
            self._leave_assigned(task)
            self._finish(task, TaskStatus.CANCELLED)
            outcome = "cancelled"
        task.reports[generation] = (kind, outcome, agent_id)
        return Answer(outcome, repeated=False, next_task=self._next(agent_id, conn))

    def _next(self, agent_id: str, conn: str) -> str | None:
        agent = self.agents[agent_id]
        if agent.state == "offline":
            del self.agents[agent_id]
            return None
        agent.unresponsive, agent.rejections = False, 0
        task = self._task_for(agent) if self.usable(agent) else None
        if task is None:
            self._make_idle(agent)
            return None
        self._assign(task, agent)
        return task.spec.id if agent.conn == conn else None

    def reject(self, task_id: str, agent_id: str, generation: int | None) -> int:
        task = self._held(task_id, agent_id, generation)
        self._leave_assigned(task)
        if task.cancelling_since is not None:
            self._finish(task, TaskStatus.CANCELLED)
        else:
            self._requeue(task)
        agent = self.agents[agent_id]
        if agent.state == "offline":
            del self.agents[agent_id]
            return 0
        agent.rejections += 1
        rest = min(self.limits.reject_cooldown_ms * 2 ** (agent.rejections - 1), self.limits.reject_cooldown_cap_ms)
        agent.state, agent.task, agent.generation, agent.unblock = "blocked", None, None, self.now + rest
        return rest
