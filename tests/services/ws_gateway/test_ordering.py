"""Under load, no assignment may overtake the answer to a report.

A client that is given its next task before it has heard of the last one takes itself for busy and rejects it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

from agentcom.domain.tasks import TaskStatus
from tests.services.ws_gateway.support import GatewayHub
from tests.support.agent import Frame, SocketAgent, WorkFailed
from tests.support.builders import serve_matches
from tests.support.eventually import eventually

AGENTS = 20
TASKS = 1_500


async def work(frame: Frame) -> Mapping[str, Any]:
    """Ends at once or a moment later, and fails now and then, so that reports and submissions meet in every way."""
    if random.random() < 0.5:
        await asyncio.sleep(random.random() * 0.01)
    if random.random() < 0.05:
        raise WorkFailed("by chance")
    return {"result": {"generation": frame["generation"]}}


async def test_no_assignment_overtakes_the_answer_to_a_report(hub: GatewayHub) -> None:
    agents = [
        SocketAgent(f"a{n}", await hub.token(f"a{n}"), [hub.url], work=work, ack_timeout_s=60) for n in range(AGENTS)
    ]
    await asyncio.gather(*[agent.start() for agent in agents])
    await serve_matches(hub.store)
    try:
        for _ in range(TASKS // 10):
            # As many as are busy at most: agents become idle all the time, and are pushed to through the outbox.
            await asyncio.gather(*[hub.submit(retry_backoff_ms=0, max_retries=50) for _ in range(10)])
            await asyncio.sleep(random.random() * 0.02)

        async def all_done() -> bool:
            await serve_matches(hub.store)
            counts = await hub.store.tasks.counts()
            return counts.total(TaskStatus.COMPLETED) == TASKS

        await eventually(all_done, timeout=60)
    finally:
        await asyncio.gather(*[agent.stop() for agent in agents])
    pushed = sum(len(agent.received("task_assign")) for agent in agents)
    assert pushed >= TASKS
    assert [frame for agent in agents for frame in agent.overtaken] == []
    assert [agent.refused for agent in agents if agent.refused] == []
    assert all(
        count == len(agent.received("task_assign", task_id=task))
        for agent in agents
        for task, count in agent.runs.items()
    )
