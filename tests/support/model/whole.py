"""The whole model: runs, what clients ask for, and the sweeps of the reaper."""

from __future__ import annotations

from agentcom.domain.tasks import TaskStatus
from tests.support.model.records import ModelTask, Refused
from tests.support.model.runs import Runs


class Model(Runs):
    """The namespace."""

    # -- calls about one task -----------------------------------------------------------------------------------------

    def cancel(self, task_id: str, reason: str) -> str:
        task = self.tasks.get(task_id)
        if task is None:
            raise Refused("task_not_found")
        if task.status is TaskStatus.CANCELLED:
            return "cancelled"
        if task.status in {TaskStatus.QUEUED, TaskStatus.DELAYED}:
            self._finish(task, TaskStatus.CANCELLED)
            return "cancelled"
        if task.status is not TaskStatus.ASSIGNED:
            raise Refused("invalid_state")
        if task.cancelling_since is None:
            task.cancelling_since, task.cancel_reason, task.updated_at = self.now, reason, self.now
            task.due["cancel"] = self.now + self.limits.cancel_timeout_ms
        return "cancelling"

    def retry(self, task_id: str) -> int:
        task = self.tasks.get(task_id)
        if task is None:
            raise Refused("task_not_found")
        if task.status is not TaskStatus.DEAD_LETTER:
            raise Refused("invalid_state")
        task.retry_count = task.delivery_count = 0
        task.last_error = task.finished_at = task.cancelling_since = task.cancel_reason = None
        if task.expires_at is not None and task.expires_at <= self.now:
            task.expires_at = None
        if task.complete_by is not None and task.complete_by <= self.now:
            task.complete_by = None
        if task.complete_by is not None:
            task.due["complete_by"] = task.complete_by
        self._requeue(task)
        return int(task.spec.priority)

    # -- sweeps -------------------------------------------------------------------------------------------------------

    def _due(self, kind: str, limit: int) -> list[ModelTask]:
        due = sorted((task.due[kind], task.spec.id) for task in self.tasks.values() if kind in task.due)
        return [self.tasks[task_id] for at, task_id in due if at <= self.now][:limit]

    def _put_off(self, task: ModelTask) -> int | None:
        """Until when the task stays with its agent all the same, because no gateway was there for a while."""
        until = self.gateways_since + self.limits.return_grace_ms
        return until if (task.assigned_at or 0) < self.gateways_since and until > self.now else None

    def sweep(self, kind: str, limit: int) -> tuple[int, bool]:
        """Serves deadlines of one kind. How many, and whether the batch was full."""
        return self._sweep_agents(kind, limit) if kind in {"grace", "unblock"} else self._sweep_tasks(kind, limit)

    def _sweep_tasks(self, kind: str, limit: int) -> tuple[int, bool]:
        due = self._due(kind, limit)
        served = 0
        for task in due:
            if kind in {"accept", "progress", "runtime"} and (until := self._put_off(task)):
                task.due[kind] = until
                continue
            served += 1
            holder = task.assigned_to if task.status is TaskStatus.ASSIGNED else None
            lost = kind in {"accept", "progress"}
            match kind:
                case "accept" | "progress":
                    self._lose(task, {"accept": "acceptance_timeout", "progress": "progress_timeout"}[kind])
                case "runtime":
                    runtime = task.spec.max_runtime_ms or self.limits.default_max_runtime_ms
                    self._fail(task, f"max_runtime: ran longer than {runtime} ms")
                case "cancel":
                    self._leave_assigned(task)
                    self._finish(task, TaskStatus.CANCELLED)
                case "expires" | "complete_by" if task.cancelling_since is not None:
                    self._finish(task, TaskStatus.CANCELLED)
                case "expires" | "complete_by":
                    self._bury(task, {"expires": "expired", "complete_by": "overdue"}[kind])
                case "delayed":
                    del task.due["delayed"]
                    task.status, task.updated_at = TaskStatus.QUEUED, self.now
                    self.requests.append(("signature", task.signature))
                    self._refile()
            if holder is not None:
                self._release(holder, task.spec.id, lost=lost)
        return served, len(due) == limit

    def _sweep_agents(self, kind: str, limit: int) -> tuple[int, bool]:
        at = {agent.id: agent.grace if kind == "grace" else agent.unblock for agent in self.agents.values()}
        due = sorted((time, name) for name, time in at.items() if time is not None and time <= self.now)[:limit]
        served = 0
        for agent in [self.agents[name] for _, name in due]:
            if kind == "unblock":
                self._unblock(agent.id)
            elif until := self._put_off(self.tasks[agent.task or ""]):
                agent.grace = until
                continue
            else:
                self._lose(self.tasks[agent.task or ""], "agent_disconnect")
                del self.agents[agent.id]
            served += 1
        return served, len(due) == limit

    def evict(self, stale_ms: int, limit: int) -> tuple[int, bool]:
        """Silent agents are disconnected."""
        connected = [agent for agent in self.agents.values() if agent.state != "offline"]
        silent = sorted((agent.seen, agent.id) for agent in connected if agent.seen <= self.now - stale_ms)[:limit]
        for _, name in silent:
            self._drop(self.agents[name])
        return len(silent), len(silent) == limit

    def expire_gateway(self) -> tuple[int, bool]:
        """One gateway whose lease has lapsed loses its agents and is forgotten."""
        lapsed = sorted((until, name) for name, until in self.gateways.items() if until <= self.now)
        if not lapsed:
            return 0, False
        name = lapsed[0][1]
        agents = [agent for agent in self.agents.values() if agent.gateway == name]
        for agent in agents:
            self._drop(agent)
        del self.gateways[name]
        return len(agents), True

    def prune(self, kind: str, limit: int) -> tuple[int, bool]:
        """Finished tasks, or dead letters, that are too old or too many."""
        dead = kind == "dead"
        statuses = {TaskStatus.DEAD_LETTER} if dead else {TaskStatus.COMPLETED, TaskStatus.CANCELLED}
        age = self.limits.dead_max_age_ms if dead else self.limits.finished_max_age_ms
        count = self.limits.dead_max_count if dead else self.limits.finished_max_count
        ended = sorted((t.finished_at or 0, t.spec.id) for t in self.tasks.values() if t.status in statuses)
        old = sum(at <= self.now - age for at, _ in ended)
        gone = ended[: min(limit, max(old, len(ended) - count, 0))]
        for _, task_id in gone:
            del self.tasks[task_id]
        self.pruned += len(gone)
        return len(gone), len(gone) == limit
