"""A store with a gateway, agents and tasks in it, for tests of the services that work on a store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson

from agentcom.domain.tasks import TaskId
from agentcom.settings import Settings
from agentcom.store.store import Store
from services.runtime import Backoff, Component, Supervisor
from tests.support.builders import GATEWAY, a_task, an_agent
from tests.support.eventually import eventually


@dataclass
class Hub:
    """Methods name what happens."""

    store: Store
    settings: Settings

    async def submit(self, **fields: Any) -> TaskId:
        return (await self.store.tasks.submit(a_task(**fields))).task_id

    async def connect(self, agent_id: str, *capabilities: str, gateway: str = GATEWAY) -> None:
        await an_agent(self.store, agent_id, capabilities=capabilities, gateway=gateway)

    async def shift_clock(self, milliseconds: int) -> None:
        """Moves the clock of a store that was opened with ``shifted_clock``."""
        await self.store.blocking.incrby(self.store.keys.clock_shift(), milliseconds)

    async def pushed(self, gateway: str = GATEWAY) -> list[dict[str, Any]]:
        """The frames in a gateway's outbox, closes left out."""
        entries = await self.store.blocking.xrange(self.store.keys.outbox(gateway))
        return [orjson.loads(fields[b"frame"]) for _, fields in entries if fields[b"kind"] != b"close"]

    async def keep_submitting(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.submit(needed_capabilities=("code",))
            await asyncio.sleep(0)

    async def work(self, agent_id: str, stop: asyncio.Event) -> None:
        """Accepts and completes whatever the agent is given, one task after the other."""
        while not stop.is_set():
            agent = await self.store.agents.get(agent_id)
            if agent.current_task_id is None:
                await asyncio.sleep(0)
                continue
            generation = await self.store.tasks.accept(agent.current_task_id, agent_id, generation=None)
            await self.store.tasks.complete(
                agent.current_task_id,
                agent_id,
                conn=f"{agent_id}-conn",
                generation=generation,
                result=b"{}",
                tokens_used=1,
            )


@asynccontextmanager
async def open_hub(redis_url: str, namespace: str, **settings: Any) -> AsyncIterator[Hub]:
    """A hub in a namespace of its own whose clock can be moved."""
    chosen = Settings(**{"redis_url": redis_url, "namespace": namespace, **settings})
    async with Store(redis_url, chosen, shifted_clock=True) as store:
        yield Hub(store, chosen)


async def turns(component: Component, count: int) -> None:
    """Returns when the component has shown progress that many times more: with 2, a whole turn lies in between."""
    for _ in range(count):
        before = component.last_progress
        await eventually(lambda before=before: component.last_progress > before)  # type: ignore[misc]


@asynccontextmanager
async def running(components: Sequence[Component]) -> AsyncIterator[Supervisor]:
    """The components under a supervisor, stopped in the end."""
    supervisor = Supervisor("test", components, backoff=Backoff(first=0.01, cap=0.05))
    task = asyncio.create_task(supervisor.run())
    try:
        yield supervisor
    finally:
        supervisor.request_stop("the test is over")
        await task
