"""The model's queues, and who gets what from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agentcom.domain.signature import PIN, SEPARATOR, signature
from agentcom.domain.tasks import NewTask, TaskStatus
from agentcom.settings import TaskLimits
from tests.support.model.records import ModelAgent, ModelTask

LISTING_START_US: Final = 1_600_000_000_000_000
PRIORITY_STEP: Final = 2_000_000_000_000_000


class Queues:
    """Tasks, agents, and what brings them together."""

    def __init__(self, limits: TaskLimits) -> None:
        self.limits = limits
        self.now_us = 0
        self.tasks: dict[str, ModelTask] = {}
        self.agents: dict[str, ModelAgent] = {}
        self.gateways: dict[str, int] = {}
        self.gateways_back = 0
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

    # -- gateways -----------------------------------------------------------------------------------------------------

    def take_gateway(self, name: str, lease_ms: int) -> None:
        self.gateways_back = self.gateways_since
        self.gateways[name] = self.now + lease_ms

    @property
    def gateways_since(self) -> int:
        """Since when there has always been a gateway; now if there is none."""
        alive = any(until > self.now for until in self.gateways.values())
        return self.gateways_back if alive else self.now

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
