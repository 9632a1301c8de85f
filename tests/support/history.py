"""The proof that every test of the whole hub ends with: the events tell one legal life for each task."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from agentcom.domain.tasks import FINISHED_STATUSES, TRANSITIONS, TaskEvent, TaskStatus
from agentcom.errors import AgentComError
from agentcom.store.audit import audit
from agentcom.store.replies import as_bytes, as_list, as_pairs
from agentcom.store.store import Store
from tests.support.agent import SocketAgent
from tests.support.eventually import eventually

_PAGE = 5_000
#: Events of an assignment: they must speak of the generation and the agent that the task was last given to.
_OF_ASSIGNMENT = frozenset(
    {
        TaskEvent.ACCEPTED,
        TaskEvent.PROGRESS,
        TaskEvent.COMPLETED,
        TaskEvent.RECLAIMED,
        TaskEvent.REJECTED,
        TaskEvent.CANCEL_REQUESTED,
    }
)


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the events stream about a task."""

    entry: str
    kind: TaskEvent
    fields: dict[str, str]

    @property
    def agent_id(self) -> str:
        return self.fields.get("agent_id", "")

    @property
    def generation(self) -> int:
        return int(self.fields["generation"])

    def __str__(self) -> str:
        return f"{self.kind}{ {name: self.fields[name] for name in sorted(self.fields)} }"


@dataclass(slots=True)
class TaskLife:
    """The events of one task so far, the statuses they allow it to be in, and what contradicts."""

    task_id: str
    events: list[Event] = field(default_factory=list)
    possible: frozenset[TaskStatus | None] = frozenset({None})
    generation: int = 0
    holder: str = ""
    findings: list[str] = field(default_factory=list)

    def add(self, event: Event) -> None:
        self.events.append(event)
        after = frozenset(
            status
            for before in self.possible
            for status in TRANSITIONS.get((before, event.kind), frozenset[TaskStatus | None]())
        )
        if not after:
            self.findings.append(f"{event} is not possible from {sorted(str(status) for status in self.possible)}")
            return
        self.possible = after
        if event.kind is TaskEvent.ASSIGNED:
            if event.generation <= self.generation:
                self.findings.append(f"{event} does not raise the generation, which was {self.generation}")
            self.generation, self.holder = event.generation, event.agent_id
        elif event.kind in _OF_ASSIGNMENT and (event.generation, event.agent_id) != (self.generation, self.holder):
            self.findings.append(f"{event} is not about the assignment {self.generation} to {self.holder}")

    def kinds(self) -> list[TaskEvent]:
        """The names of the events, in order."""
        return [event.kind for event in self.events]

    def of(self, kind: TaskEvent) -> list[Event]:
        return [event for event in self.events if event.kind is kind]


@dataclass(frozen=True, slots=True)
class History:
    """The lives of all tasks of a namespace."""

    lives: dict[str, TaskLife]

    def of(self, task_id: str) -> TaskLife:
        """The life of one task. Raises AssertionError if no event tells of it."""
        assert task_id in self.lives, f"no event tells of {task_id}"
        return self.lives[task_id]

    def __len__(self) -> int:
        return len(self.lives)


async def read_history(store: Store) -> History:
    """Replays the events stream. Contradictions are left in ``TaskLife.findings``."""
    lives: dict[str, TaskLife] = {}
    start = "-"
    while True:
        page = as_list(await store.link.call("XRANGE", store.keys.events(), start, "+", "COUNT", _PAGE))
        for raw in page:
            entry, flat = as_list(raw)
            fields = {name.decode(): value.decode() for name, value in as_pairs(flat)}
            start = f"({as_bytes(entry).decode()}"
            if (task_id := fields.pop("task_id", None)) is None:
                continue
            event = Event(as_bytes(entry).decode(), TaskEvent(fields.pop("event")), fields)
            lives.setdefault(task_id, TaskLife(task_id)).add(event)
        if len(page) < _PAGE:
            return History(lives)


async def all_ended(store: Store, *, timeout: float = 60.0) -> None:
    """Waits until no task is queued, delayed or assigned; first for the store itself, should it have been away."""
    await eventually(lambda: store.link.connected, timeout=timeout)

    async def ended() -> None:
        counts = await store.tasks.counts()
        live = {
            str(status): n for status in TaskStatus if status not in FINISHED_STATUSES and (n := counts.total(status))
        }
        assert not live, f"tasks that have not ended: {live}"

    await eventually(ended, timeout=timeout)


async def prove(
    store: Store,
    *,
    acknowledged: Collection[str] = (),
    agents: Iterable[SocketAgent] = (),
    settle_s: float = 2.0,
) -> History:
    """Everything that must be true however the hub was treated, for a hub that has come to rest.

    ``acknowledged`` are the tasks whose submission was answered; ``agents`` are those whose acks are to be checked
    against the store. Raises AssertionError with all that is wrong.
    """
    history = await read_history(store)
    counts = await store.tasks.counts()
    wrong = [f"{counts.unaccounted} tasks are nowhere"] if counts.unaccounted else []
    wrong += [f"{life.task_id}: {finding}" for life in history.lives.values() for finding in life.findings]
    wrong += await _compare_with_store(store, history)
    wrong += [
        f"{task_id} was acknowledged and no event tells of it" for task_id in set(acknowledged) - set(history.lives)
    ]
    wrong += _compare_with_acks(history, agents)
    wrong += await audit(store, settle_s=settle_s)
    assert not wrong, "\n".join([f"{len(wrong)} contradictions:", *wrong[:30]])
    return history


async def _compare_with_store(store: Store, history: History) -> list[str]:
    """Each task that the events tell of is where they say, and no other task is there."""
    wrong = []
    places: dict[str, list[TaskStatus]] = {}
    for status in TaskStatus:
        members = as_list(await store.link.call("ZRANGE", store.keys.status(status), 0, -1))
        for member in members:
            places.setdefault(as_bytes(member).decode(), []).append(status)
    untold = places.keys() - history.lives.keys()
    wrong += [f"{task_id} is {places[task_id]} and no event tells of it" for task_id in untold]
    for life in history.lives.values():
        found = places.get(life.task_id, [])
        if len(found) > 1:
            wrong.append(f"{life.task_id} is in {len(found)} places: {found}")
        elif (found[0] if found else None) not in life.possible:
            wrong.append(f"{life.task_id} is {found}, its events lead to {sorted(map(str, life.possible))}")
        if len(life.of(TaskEvent.COMPLETED)) > 1:
            wrong.append(f"{life.task_id} was completed {len(life.of(TaskEvent.COMPLETED))} times")
        try:
            task = await store.task_reader.get(life.task_id)
        except AgentComError as error:
            if found:
                wrong.append(f"{life.task_id} is {found} but cannot be read: {error}")
            continue
        if [task.status] != found:
            wrong.append(f"{life.task_id} calls itself {task.status} and is in {found}")
        if task.generation < life.generation:
            wrong.append(f"{life.task_id} has generation {task.generation}, its events tell of {life.generation}")
    return wrong


def _compare_with_acks(history: History, agents: Iterable[SocketAgent]) -> list[str]:
    """An acknowledged completion is the one that the store took; no task has two."""
    wrong = []
    completed_by: dict[str, list[tuple[str, int]]] = {}
    for agent in agents:
        for (task_id, generation), status in agent.acknowledged.items():
            if status == "complete":
                completed_by.setdefault(task_id, []).append((agent.id, generation))
    for task_id, acks in completed_by.items():
        life = history.lives.get(task_id)
        taken = [(event.agent_id, event.generation) for event in life.of(TaskEvent.COMPLETED)] if life else []
        if acks != taken:
            wrong.append(f"{task_id}: completions acknowledged {acks}, taken {taken}")
    return wrong
