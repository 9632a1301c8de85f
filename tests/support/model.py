"""What the store should do, as plain Python: no Redis, no bounds on work, no thought of cost.

The rules are those of the scripts, told once more in the simplest way there is. Times are milliseconds unless a name
says otherwise; the model's clock is set by whoever drives it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from agentcom.domain.signature import PIN, SEPARATOR, signature
from agentcom.domain.tasks import NewTask, TaskStatus
from agentcom.settings import TaskLimits

LISTING_START_US: Final = 1_600_000_000_000_000
PRIORITY_STEP: Final = 2_000_000_000_000_000
UNRESPONSIVE_PENALTY: Final = 10**13


class Refused(Exception):
    """The transition is refused; the argument is the error's code."""


@dataclass(slots=True)
class ModelTask:
    """A task and its deadlines."""

    spec: NewTask
    signature: str
    status: TaskStatus
    score: int
    listing: int
    created_at: int
    generation: int = 0
    retry_count: int = 0
    delivery_count: int = 0
    assigned_to: str | None = None
    assigned_at: int | None = None
    accepted_at: int | None = None
    progress: int | None = None
    cancelling_since: int | None = None
    cancel_reason: str | None = None
    last_error: str | None = None
    result: str | None = None
    finished_at: int | None = None
    expires_at: int | None = None
    complete_by: int | None = None
    updated_at: int = 0
    due: dict[str, int] = field(default_factory=dict)
    reports: dict[int, tuple[str, str, str]] = field(default_factory=dict)


@dataclass(slots=True)
class ModelAgent:
    """An agent that is connected, or holds a task within its grace."""

    id: str
    conn: str | None
    gateway: str | None
    capabilities: tuple[str, ...]
    sends_progress: bool
    state: str
    seen: int
    task: str | None = None
    generation: int | None = None
    unresponsive: bool = False
    rejections: int = 0
    idle_score: int = 0
    grace: int | None = None
    unblock: int | None = None


@dataclass(slots=True)
class Answer:
    """An accepted report: what it led to, whether it is known already, and the task pushed in the same step."""

    outcome: str
    repeated: bool
    next_task: str | None


class Model:
    """The whole namespace."""

    def __init__(self, limits: TaskLimits) -> None:
        self.limits = limits
        self.now_us = 0
        self.tasks: dict[str, ModelTask] = {}
        self.agents: dict[str, ModelAgent] = {}
        self.gateways: dict[str, int] = {}
        self.filed: dict[str, str] = {}
        self.requests: list[tuple[str, str]] = []
        self.submitted = 0
        self.pruned = 0

    @property
    def now(self) -> int:
        return self.now_us // 1_000

    # -- queues -------------------------------------------------------------------------------------------------------

    def queue(self, name: str) -> list[ModelTask]:
        waiting = [t for t in self.tasks.values() if t.status is TaskStatus.QUEUED and t.signature == name]
        return sorted(waiting, key=lambda task: (task.score, task.spec.id))

    def signatures(self) -> set[str]:
        return {task.signature for task in self.tasks.values() if task.status is TaskStatus.QUEUED}

    def capability_counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for agent in self.agents.values():
            for capability in agent.capabilities if agent.state != "offline" else ():
                counts[capability] = counts.get(capability, 0) + 1
        return counts

    def _refile(self) -> None:
        """A queue of several capabilities is filed when it gets its first task, where the fewest agents look."""
        waiting = {name for name in self.signatures() if SEPARATOR in name and not name.startswith(PIN)}
        for name in self.filed.keys() - waiting:
            del self.filed[name]
        counts = self.capability_counts()
        for name in waiting - self.filed.keys():
            self.filed[name] = min(
                name.split(SEPARATOR), key=lambda capability: (counts.get(capability, 0), capability)
            )

    # -- matching -----------------------------------------------------------------------------------------------------

    def usable(self, agent: ModelAgent) -> bool:
        return agent.gateway is not None and self.gateways.get(agent.gateway, 0) > self.now

    def capable(self, agent: ModelAgent, name: str) -> bool:
        if name.startswith(PIN):
            return name == PIN + agent.id
        return set(name.split(SEPARATOR) if name else ()) <= set(agent.capabilities)

    def _agent_for(self, name: str) -> ModelAgent | None:
        waiting = [agent for agent in self.agents.values() if agent.state == "idle"]
        for agent in sorted(waiting, key=lambda agent: (agent.idle_score, agent.id)):
            if self.capable(agent, name) and self.usable(agent):
                return agent
        return None

    def _task_for(self, agent: ModelAgent) -> ModelTask | None:
        """The best head of all queues it can serve; of equal ones, the queue that is looked at first."""
        names = ["", PIN + agent.id, *agent.capabilities]
        for capability in agent.capabilities:
            filed = [name for name, under in self.filed.items() if under == capability and self.capable(agent, name)]
            names += sorted(filed, key=lambda name: (self.queue(name)[0].score, name))[:1]
        heads = [queue[0] for name in names if (queue := self.queue(name))]
        return min(heads, key=lambda task: task.score, default=None)

    def _assign(self, task: ModelTask, agent: ModelAgent) -> None:
        task.status = TaskStatus.ASSIGNED
        task.generation += 1
        task.assigned_to, task.assigned_at, task.updated_at = agent.id, self.now, self.now
        task.due.pop("expires", None)
        task.due["accept"] = self.now + self.limits.accept_timeout_ms
        agent.state, agent.task, agent.generation = "assigned", task.spec.id, task.generation
        self._refile()

    def serve(self) -> int:
        """Serves the match requests there are, in order."""
        requests, self.requests = self.requests, []
        matched = 0
        for kind, name in requests:
            if kind == "agent":
                agent = self.agents.get(name)
                if agent and agent.state == "idle" and self.usable(agent) and (task := self._task_for(agent)):
                    self._assign(task, agent)
                    matched += 1
                continue
            while (queue := self.queue(name)) and (agent := self._agent_for(name)):
                self._assign(queue[0], agent)
                matched += 1
        return matched

    # -- submitting ---------------------------------------------------------------------------------------------------

    def submit(self, tasks: Sequence[NewTask]) -> list[str]:
        """The ids under which the tasks are stored, each once."""
        for index, spec in enumerate(tasks, start=1):
            if spec.id not in self.tasks:
                self._store(spec, index)
        return [spec.id for spec in tasks]

    def _store(self, spec: NewTask, index: int) -> None:
        created_us = self.now_us + index
        delayed = spec.run_at is not None and spec.run_at > self.now
        queued_us = (spec.run_at or 0) * 1_000 + index if delayed else created_us
        task = ModelTask(
            spec=spec,
            signature=signature(spec.needed_capabilities, target_agent=spec.target_agent),
            status=TaskStatus.DELAYED if delayed else TaskStatus.QUEUED,
            score=queued_us + spec.priority * self.limits.priority_window_ms * 1_000,
            listing=spec.priority * PRIORITY_STEP + created_us - LISTING_START_US,
            created_at=self.now,
            updated_at=self.now,
            expires_at=spec.expires_at,
            complete_by=spec.complete_by,
        )
        behind_others = bool(self.queue(task.signature))
        self.tasks[spec.id] = task
        self.submitted += 1
        if spec.complete_by is not None:
            task.due["complete_by"] = spec.complete_by
        if spec.expires_at is not None:
            task.due["expires"] = spec.expires_at
        if delayed:
            task.due["delayed"] = spec.run_at or 0
        elif not behind_others and (agent := self._agent_for(task.signature)):
            self._assign(task, agent)
        self._refile()

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

    def sweep(self, kind: str, limit: int) -> tuple[int, bool]:
        """Serves deadlines of one kind. How many, and whether the batch was full."""
        served = [*self._due_agents(kind, limit)] if kind in {"grace", "unblock"} else self._sweep_tasks(kind, limit)
        return len(served), len(served) == limit

    def _sweep_tasks(self, kind: str, limit: int) -> list[ModelTask]:
        due = self._due(kind, limit)
        for task in due:
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
        return due

    def _due_agents(self, kind: str, limit: int) -> list[ModelAgent]:
        at = {agent.id: agent.grace if kind == "grace" else agent.unblock for agent in self.agents.values()}
        due = sorted((time, name) for name, time in at.items() if time is not None and time <= self.now)[:limit]
        agents = [self.agents[name] for _, name in due]
        for agent in agents:
            if kind == "unblock":
                self._unblock(agent.id)
            else:
                if agent.task is not None:
                    self._lose(self.tasks[agent.task], "agent_disconnect")
                del self.agents[agent.id]
        return agents

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
