"""What the chaos tests share: a busy hub, and the end that every one of them must come to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from agentcom.domain.tasks import TaskStatus
from tests.support.agent import SIDECAR, SocketAgent, WorkFailed, working_for
from tests.support.history import History
from tests.support.hub import ServiceProcess
from tests.support.scenario import Scenario, hub_of_its_own

#: No task may run out of attempts because of what is done to the hub.
PERSISTENT: Final = {"max_deliveries": 100, "max_retries": 100}


@asynccontextmanager
async def busy_hub(
    folder: Path,
    *,
    rng: random.Random,
    agents: int = 12,
    per_second: float = 25.0,
    work_s: float = 0.05,
    settings: Mapping[str, object] | None = None,
    **copies: int,
) -> AsyncIterator[Scenario]:
    """A hub with restless agents of all kinds and tasks coming in, until the block ends; then all must be well."""
    async with hub_of_its_own(folder, settings=settings, **copies) as scenario:
        await mixed_fleet(scenario, rng=rng, count=agents, work_s=work_s)
        async with (
            scenario.load(per_second=per_second, rng=rng, fields=lambda: random_fields(scenario, rng)),
            unrest(scenario, rng=rng),
        ):
            await asyncio.sleep(0.5)
            yield scenario
        await everything_completed(scenario)


async def mixed_fleet(scenario: Scenario, *, rng: random.Random, count: int, work_s: float = 0.05) -> list[SocketAgent]:
    """Agents with one or two more capabilities, quick and slow, of the old and the new protocol, failing at times."""

    def work_of(number: int) -> Any:
        work = working_for(work_s * (1 + 2 * (number % 3)), spread=work_s / 2)

        async def sometimes_failing(frame: dict[str, Any]) -> Mapping[str, Any]:
            done = await work(frame)
            if rng.random() < 0.03:
                raise WorkFailed("bad luck")
            return done

        return sometimes_failing

    return [
        await scenario.agent(
            work=work_of(number),
            also=[f"{scenario.capability}-{'ab'[number % 2]}"],
            features=SIDECAR if number % 4 else None,
            pong_timeout_s=(2.0, 20.0)[number % 2],
        )
        for number in range(count)
    ]


def random_fields(scenario: Scenario, rng: random.Random) -> dict[str, Any]:
    """The fields of one of many different tasks."""
    needs = [
        scenario.capability,
        *rng.sample([f"{scenario.capability}-a", f"{scenario.capability}-b"], rng.choice([0, 0, 1])),
    ]
    return {
        "needed_capabilities": needs,
        "priority": rng.choice(["urgent", "high", "normal", "normal", "low"]),
        "metadata": {"n": rng.randrange(1_000_000)},
        **PERSISTENT,
    }


@asynccontextmanager
async def unrest(scenario: Scenario, *, rng: random.Random) -> AsyncIterator[None]:
    """All the while, at random moments: tasks are cancelled, sockets break, and agents forget everything."""

    async def stir() -> None:
        while True:
            await asyncio.sleep(rng.expovariate(4))
            agent = rng.choice(scenario.agents)
            match rng.randrange(5):
                case 0 | 1:
                    agent.cut()
                case 2 if not agent.is_old:
                    await agent.die()
                    agent.launch()
                case _ if scenario.acknowledged:
                    await scenario.cancel_if_possible(rng.choice(scenario.acknowledged[-30:]))

    stirring = asyncio.create_task(stir())
    try:
        yield
        if stirring.done():
            stirring.result()
    finally:
        stirring.cancel()
        await asyncio.gather(stirring, return_exceptions=True)


async def everything_completed(scenario: Scenario, *, timeout: float = 90.0) -> History:
    """Every acknowledged task comes to be completed, or cancelled if somebody asked for it, and the proof holds."""
    await scenario.rest(timeout=timeout)
    counts = await scenario.store.tasks.counts()
    ends = {status: n for status in TaskStatus if (n := counts.total(status))}
    # A submission whose answer was lost is stored once, however often it was made.
    assert sum(ends.values()) == len(set(scenario.acknowledged)), ends
    assert set(ends) <= {TaskStatus.COMPLETED, TaskStatus.CANCELLED}, ends
    history = await scenario.prove()
    ended_as = {task_id: life.possible for task_id, life in history.lives.items()}
    cancelled = {task_id for task_id, status in ended_as.items() if status == {TaskStatus.CANCELLED}}
    assert scenario.cancelled <= cancelled <= scenario.cancelled | scenario.cancels_asked
    kinds = [kind for life in history.lives.values() for kind in life.kinds()]
    told = {str(kind): kinds.count(kind) for kind in sorted(set(kinds))}
    print(f"{len(scenario.acknowledged)} tasks; events: {told}")
    return history


async def kill_and_restart(process: ServiceProcess, *, rng: random.Random, down_s: float = 1.0) -> None:
    """SIGKILL, a moment without it, and a new start."""
    process.kill()
    await asyncio.sleep(rng.uniform(0, down_s))
    await process.start()
