"""What must be true of a stored task, agent and queue. Pure: facts in, sentences about what is wrong out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agentcom.domain.agents import AgentState
from agentcom.domain.tasks import FINISHED_STATUSES, LIVE_STATUSES, TaskStatus

HOLDING = frozenset({AgentState.ASSIGNED, AgentState.WORKING, AgentState.OFFLINE})


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFacts:
    """A task's own record, and the scores it has in every place a task can be in (absent ones are left out).

    ``holder`` is (task, generation, state) of the agent that the record names.
    """

    id: str
    status: str | None
    listing: float | None
    score: float | None
    assigned_to: str | None
    generation: str | None
    accepted: bool
    has_max_runtime: bool
    cancelling: bool
    expires_at: float | None
    complete_by: float | None
    in_status: Mapping[str, float]
    due: Mapping[str, float]
    in_finished: bool
    in_dead: bool
    queue_score: float | None
    holder: tuple[str | None, str | None, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFacts:
    """An agent's own record, where it is listed, and (status, assigned_to, generation, accepted) of its task.

    ``not_waiting_under`` are capabilities of its record whose idle set it is not in.
    """

    id: str
    state: str | None
    capabilities: tuple[str, ...]
    task: str | None
    generation: str | None
    gateway: str | None
    conn: str | None
    in_agents: bool
    in_seen: bool
    in_idle: bool
    in_grace: bool
    in_unblock: bool
    in_gateway: bool
    gateway_known: bool
    task_record: tuple[str | None, str | None, str | None, bool]
    not_waiting_under: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignatureFacts:
    """A queue's head score, and where its signature is filed with which score."""

    signature: str
    is_filed_kind: bool
    head: float | None
    filed_under: str | None
    filed_score: float | None


def task_findings(task: TaskFacts) -> Iterator[str]:
    """What is wrong with one task."""
    who = f"task {task.id}"
    places = [
        *task.in_status,
        *(f"due:{kind}" for kind in task.due),
        *(["finished"] if task.in_finished else []),
        *(["dead"] if task.in_dead else []),
    ]
    if task.status is None:
        if places:
            yield f"{who} does not exist but is in {', '.join(places)}"
        return
    if task.status not in set(TaskStatus):
        yield f"{who} has the unknown status {task.status}"
        return
    status = TaskStatus(task.status)
    if set(task.in_status) != {status.value}:
        yield f"{who} is {status} but is listed under {', '.join(task.in_status) or 'no status'}"
    elif task.in_status[status.value] != task.listing:
        yield f"{who} is listed under {status} with score {task.in_status[status.value]}, not {task.listing}"
    if (status is TaskStatus.QUEUED) != (task.queue_score is not None):
        yield f"{who} is {status} but is {'not ' if task.queue_score is None else ''}in its queue"
    elif task.queue_score is not None and task.queue_score != task.score:
        yield f"{who} is queued with score {task.queue_score}, not {task.score}"
    expected = _deadlines(task, status)
    for kind in sorted(expected - task.due.keys()):
        yield f"{who} is {status} but has no {kind} deadline"
    for kind in sorted(task.due.keys() - expected):
        yield f"{who} is {status} but has a deadline {kind}"
    for kind, at in (("expires", task.expires_at), ("complete_by", task.complete_by)):
        if kind in task.due and kind in expected and task.due[kind] != at:
            yield f"{who} has its {kind} deadline at {task.due[kind]}, not at {at}"
    if task.in_finished != (status in FINISHED_STATUSES - {TaskStatus.DEAD_LETTER}):
        yield f"{who} is {status} but is {'' if task.in_finished else 'not '}among the finished"
    if task.in_dead != (status is TaskStatus.DEAD_LETTER):
        yield f"{who} is {status} but is {'' if task.in_dead else 'not '}among the dead letters"
    if status is TaskStatus.ASSIGNED:
        yield from _holder_findings(task)


def _deadlines(task: TaskFacts, status: TaskStatus) -> set[str]:
    expected: set[str] = set()
    if status is TaskStatus.ASSIGNED:
        expected.add("progress" if task.accepted else "accept")
        if task.accepted and task.has_max_runtime:
            expected.add("runtime")
        if task.cancelling:
            expected.add("cancel")
    if status is TaskStatus.DELAYED:
        expected.add("delayed")
    if status in {TaskStatus.QUEUED, TaskStatus.DELAYED} and task.expires_at is not None:
        expected.add("expires")
    if status in LIVE_STATUSES and task.complete_by is not None:
        expected.add("complete_by")
    return expected


def _holder_findings(task: TaskFacts) -> Iterator[str]:
    who = f"task {task.id}"
    holds, generation, state = task.holder
    if task.assigned_to is None:
        yield f"{who} is assigned to nobody"
    elif holds != task.id:
        yield f"{who} is assigned to agent {task.assigned_to}, which holds {holds or 'no task'}"
    elif generation != task.generation:
        yield f"{who} is in generation {task.generation}, for its agent {task.assigned_to} in {generation}"
    elif state not in HOLDING:
        yield f"{who} is assigned to agent {task.assigned_to}, which is {state}"


def agent_findings(agent: AgentFacts) -> Iterator[str]:
    """What is wrong with one agent."""
    who = f"agent {agent.id}"
    listed = {
        "the connected": agent.in_agents,
        "the seen": agent.in_seen,
        "the idle": agent.in_idle,
        "due:grace": agent.in_grace,
        "due:unblock": agent.in_unblock,
    }
    if agent.state is None:
        places = [name for name, there in listed.items() if there]
        if places:
            yield f"{who} has no record but is among {', '.join(places)}"
        return
    if agent.state not in set(AgentState):
        yield f"{who} has the unknown state {agent.state}"
        return
    state = AgentState(agent.state)
    connected = state is not AgentState.OFFLINE
    expected = {
        "the connected": connected,
        "the seen": connected,
        "the idle": state is AgentState.IDLE,
        "due:grace": not connected,
        "due:unblock": state is AgentState.BLOCKED,
    }
    for name, there in listed.items():
        if there != expected[name]:
            yield f"{who} is {state} but is {'' if there else 'not '}among {name}"
    if connected and (agent.gateway is None or agent.conn is None):
        yield f"{who} is {state} but on no connection"
    elif connected and not agent.in_gateway:
        yield f"{who} is connected to gateway {agent.gateway}, which does not list it"
    elif connected and not agent.gateway_known:
        yield f"{who} is connected to gateway {agent.gateway}, which is not known"
    elif not connected and agent.gateway is not None:
        yield f"{who} is offline but still on gateway {agent.gateway}"
    if state is AgentState.IDLE and agent.not_waiting_under:
        yield f"{who} is idle but does not wait under {', '.join(agent.not_waiting_under)}"
    yield from _task_of_agent_findings(agent, state)


def _task_of_agent_findings(agent: AgentFacts, state: AgentState) -> Iterator[str]:
    who = f"agent {agent.id}"
    if state not in HOLDING:
        if agent.task is not None:
            yield f"{who} is {state} but holds task {agent.task}"
        return
    if agent.task is None:
        yield f"{who} is {state} but holds no task"
        return
    status, owner, generation, accepted = agent.task_record
    if status != TaskStatus.ASSIGNED or owner != agent.id:
        yield f"{who} holds task {agent.task}, which is {status or 'not there'}, assigned to {owner or 'nobody'}"
    elif generation != agent.generation:
        yield f"{who} holds task {agent.task} in generation {agent.generation}, which is in {generation}"
    elif state is not AgentState.OFFLINE and accepted != (state is AgentState.WORKING):
        yield f"{who} is {state} but task {agent.task} is {'' if accepted else 'not '}accepted"


def signature_findings(facts: SignatureFacts) -> Iterator[str]:
    """What is wrong with the filing of one queue."""
    who = f"queue {facts.signature!r}"
    should_be_filed = facts.is_filed_kind and facts.head is not None
    if should_be_filed != (facts.filed_under is not None):
        yield f"{who} is {'not ' if should_be_filed else ''}filed, but it should {'' if should_be_filed else 'not '}be"
    elif should_be_filed and facts.filed_score != facts.head:
        yield f"{who} is filed under {facts.filed_under} with score {facts.filed_score}, its head has {facts.head}"
