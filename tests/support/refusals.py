"""Refused calls: they raise, and change nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import pytest

from agentcom.errors import AgentComError, InvalidState, NotOwner, StaleGeneration, TaskNotFound
from agentcom.store.store import Store
from tests.support.builders import a_task
from tests.support.snapshot import diff, dump
from tests.support.stages import working

E = TypeVar("E", bound=AgentComError)


async def refused(store: Store, call: Awaitable[object], error: type[E]) -> E:
    """Asserts that the call raises the error and leaves the namespace as it was. Returns the error."""
    before = await dump(store)
    with pytest.raises(error) as caught:
        await call
    assert diff(before, await dump(store)) == {}
    return caught.value


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRefusal:
    """A frame about a task that no transition takes."""

    name: str
    task_id: str
    agent_id: str
    generation: int
    error: type[AgentComError]
    details: Mapping[str, object]

    def __str__(self) -> str:
        return self.name

    @staticmethod
    async def seed(store: Store) -> None:
        """``working`` is held by a1, ``waiting`` is queued, ``done`` was completed."""
        agent = await working(store, "done")
        await store.tasks.complete("done", "a1", conn=agent.conn, generation=1, result=b"null", tokens_used=None)
        await working(store, "working")
        await store.tasks.submit(a_task("waiting", target_agent="nobody"))


FRAME_REFUSALS = [
    FrameRefusal(
        name="unknown task",
        task_id="unknown",
        agent_id="a1",
        generation=1,
        error=TaskNotFound,
        details={"task_id": "unknown"},
    ),
    FrameRefusal(
        name="queued",
        task_id="waiting",
        agent_id="a1",
        generation=0,
        error=InvalidState,
        details={"task_id": "waiting", "status": "queued"},
    ),
    FrameRefusal(
        name="completed",
        task_id="done",
        agent_id="a1",
        generation=2,
        error=InvalidState,
        details={"task_id": "done", "status": "completed"},
    ),
    FrameRefusal(
        name="older generation",
        task_id="working",
        agent_id="a1",
        generation=0,
        error=StaleGeneration,
        details={"task_id": "working", "current": 1},
    ),
    FrameRefusal(
        name="another agent's",
        task_id="working",
        agent_id="a2",
        generation=1,
        error=NotOwner,
        details={"task_id": "working"},
    ),
]
