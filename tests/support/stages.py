"""Bringing a store to the point where a test begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentcom.store.store import Store
from tests.support.builders import ConnectedAgent, a_task, an_agent, serve_matches

MINUTE = 60_000


def queue_score(at_ms: int, *, priority: int = 2, index: int = 1, window_ms: int = 15 * MINUTE) -> int:
    """The score of a task in its queue; ``index`` is its position in its submission, from 1."""
    return (at_ms + priority * window_ms) * 1_000 + index


def list_score(at_ms: int, *, priority: int = 2, index: int = 1) -> int:
    """The score of a task in the list of its status."""
    return priority * 2_000_000_000_000_000 + at_ms * 1_000 + index - 1_600_000_000_000_000


async def idle_agent(store: Store, agent_id: str = "a1", **connection: Any) -> ConnectedAgent:
    """A connected agent whose joining the scheduler has served already."""
    agent = await an_agent(store, agent_id, **connection)
    await serve_matches(store)
    return agent


async def assigned(
    store: Store,
    task_id: str = "t1",
    agent_id: str = "a1",
    *,
    capabilities: Sequence[str] = (),
    features: Sequence[str] = (),
    gateway: str = "gw",
    **fields: Any,
) -> ConnectedAgent:
    """A new agent that was pushed a new task and has not accepted it."""
    agent = await idle_agent(store, agent_id, capabilities=capabilities, features=features, gateway=gateway)
    await store.tasks.submit(a_task(task_id, **fields))
    return agent


async def working(store: Store, task_id: str = "t1", agent_id: str = "a1", **fields: Any) -> ConnectedAgent:
    """A new agent that has accepted a new task."""
    agent = await assigned(store, task_id, agent_id, **fields)
    await store.tasks.accept(task_id, agent_id, generation=None)
    return agent


async def dead(store: Store, task_id: str = "t1", agent_id: str = "a1", **fields: Any) -> ConnectedAgent:
    """A task that an agent failed for good; the agent is idle again."""
    agent = await working(store, task_id, agent_id, max_retries=1, **fields)
    await store.tasks.fail(task_id, agent_id, conn=agent.conn, generation=1, reason="it broke")
    return agent
