"""Agents that come and go, on two gateways."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from agentcom.domain.tasks import TaskEvent
from tests.support.agent import at_once, forever, working_for
from tests.support.eventually import eventually
from tests.support.hub import ServiceProcess
from tests.support.scenario import Scenario

pytestmark = pytest.mark.e2e


async def test_a_task_whose_agent_is_cut_off_for_good_is_completed_once_by_a_survivor(scenario: Scenario) -> None:
    victim = await scenario.agent(work=forever)
    task_id = await scenario.submit()
    await victim.wait_for("task_ack", status="accepted", task_id=task_id)
    survivor = await scenario.agent()
    await victim.die()
    task = await scenario.completed(task_id)
    assert task["assigned_to"] == survivor.id
    assert task["generation"] > 1
    assert [e["details"] for e in task["history"] if e["event"] == "reclaimed"] == ["agent_disconnect"]
    assert len((await scenario.history()).of(task_id).of(TaskEvent.COMPLETED)) == 1


@pytest.mark.parametrize("features", [("progress", "cancel", "recover"), None], ids=["new-client", "old-client"])
async def test_an_agent_that_comes_back_in_time_keeps_its_task(
    scenario: Scenario, features: tuple[str, ...] | None
) -> None:
    agent = await scenario.agent(work=working_for(1.0), features=features)
    await scenario.fleet(2)
    task_id = await scenario.submit(target_agent=agent.id)
    await agent.wait_for("task_ack", status="accepted", task_id=task_id)
    agent.cut()  # it tries the gateways in turn, so it comes back on the other one
    await eventually(lambda: agent.connections >= 2 and agent.identified)
    if features:
        assert (await agent.wait_for("task_continue", task_id=task_id))["generation"] == 1
    task = await scenario.completed(task_id)
    assert task["generation"] == 1
    assert agent.runs[task_id] == 1
    assert len(agent.received("task_assign", task_id=task_id)) == 1


async def test_an_unaccepted_assignment_is_pushed_again_on_the_next_connection(scenario: Scenario) -> None:
    agent = await scenario.agent(accepts=False)
    task_id = await scenario.submit()
    await agent.wait_for("task_assign", task_id=task_id)
    agent.accepts = True
    agent.cut()
    task = await scenario.completed(task_id)
    assert task["generation"] == 1
    assert [frame["generation"] for frame in agent.received("task_assign", task_id=task_id)] == [1, 1]


async def test_a_result_that_could_not_be_sent_is_delivered_after_the_reconnect(scenario: Scenario) -> None:
    finish = asyncio.Event()

    async def work(_frame: dict) -> dict:
        await finish.wait()
        return {"result": {"late": True}}

    agent = await scenario.agent(work=work)
    task_id = await scenario.submit()
    await agent.wait_for("task_ack", status="accepted", task_id=task_id)
    agent.cut()
    finish.set()
    task = await scenario.completed(task_id)
    assert task["result"] == {"late": True}
    assert task["generation"] == 1
    assert agent.runs[task_id] == 1


async def test_the_newest_connection_of_an_agent_wins_on_whichever_gateway(scenario: Scenario) -> None:
    first = await scenario.agent("twin-" + scenario.capability, gateway=0)
    second = await scenario.agent(first.id, gateway=1)
    await eventually(lambda: first.ended)
    assert first.closes == [4500]
    third = await scenario.agent(first.id, gateway=1)
    await eventually(lambda: second.ended)
    assert second.closes == [4500]
    task = await scenario.completed(await scenario.submit())
    await eventually(lambda: third.completed == {task["id"]})
    assert task["assigned_to"] == third.id


async def test_a_revoked_token_ends_the_sockets_of_its_agent_at_once_on_every_gateway(scenario: Scenario) -> None:
    revoked = [await scenario.agent(gateway=number) for number in range(2)]
    others = [await scenario.agent(gateway=number) for number in range(2)]
    for agent in revoked:
        await scenario.operator.revoke_tokens(agent.id)
    await eventually(lambda: all(agent.ended for agent in revoked), timeout=5)
    assert [agent.closes for agent in revoked] == [[4501], [4501]]
    back = await scenario.make_agent(revoked[0].id)
    back.reconnects = False
    back.launch()
    await back.wait_for("error", error="invalid_token")
    tasks = [await scenario.submit() for _ in range(4)]
    for task_id in tasks:
        assert (await scenario.completed(task_id))["assigned_to"] in {agent.id for agent in others}


async def test_a_task_of_a_revoked_agent_goes_to_another(scenario: Scenario) -> None:
    revoked = await scenario.agent(work=forever)
    task_id = await scenario.submit()
    await revoked.wait_for("task_ack", status="accepted", task_id=task_id)
    other = await scenario.agent()
    await scenario.operator.revoke_tokens(revoked.id)
    task = await scenario.completed(task_id)
    assert task["assigned_to"] == other.id


@asynccontextmanager
async def hiccups(processes: Sequence[ServiceProcess]) -> AsyncIterator[None]:
    """Lets the processes stand still for 20 ms each, again and again."""

    async def hiccup() -> None:
        while True:
            for process in processes:
                process.freeze()
                try:
                    await asyncio.sleep(0.02)
                finally:
                    process.thaw()
                await asyncio.sleep(0.03)

    hiccuping = asyncio.create_task(hiccup())
    try:
        yield
    finally:
        hiccuping.cancel()
        await asyncio.gather(hiccuping, return_exceptions=True)


async def test_twenty_agents_driven_hard_see_no_assignment_overtake_an_ack(scenario: Scenario) -> None:
    """And at rest nobody idle could do a queued task, whatever needs and gifts there are.

    An ack and the next assignment reach a gateway on two connections. Standing still for a moment, it finds both there
    when it goes on, and has to write them in their order.
    """
    rng = random.Random(7)
    gifts = [f"{scenario.capability}-{letter}" for letter in "abc"]
    agents = []
    for n in range(20):
        also = [gift for bit, gift in enumerate(gifts) if n >> bit & 1]
        agents.append(await scenario.agent(also=also, work=at_once if n % 2 else working_for(0.002, spread=0.002)))

    async def submit(number: int) -> None:
        for n in range(50):
            await scenario.submit(
                f"task {number}.{n}",
                needed_capabilities=[scenario.capability, *rng.sample(gifts, rng.randrange(3))],
                priority=rng.choice(["urgent", "high", "normal", "low"]),
            )
            if n > 15:
                await asyncio.sleep(rng.expovariate(40))  # the queues run dry: submissions meet agents about to be idle

    async with hiccups(scenario.hub.of("ws_gateway")):
        await asyncio.gather(*[submit(number) for number in range(8)])
        nobody_can = [
            await scenario.submit(needed_capabilities=[scenario.capability, *gifts, "flying"]) for _ in range(3)
        ]
        await eventually(lambda: sum(len(agent.completed) for agent in agents) == 400, timeout=90)
    assert [agent.id for agent in agents if agent.overtaken] == []
    assert all(set(agent.runs.values()) <= {1} for agent in agents)
    await scenario.prove()  # its audit looks for idle agents beside tasks that they could do
    history = await scenario.history()
    assert all(len(history.of(task_id).of(TaskEvent.ASSIGNED)) == 1 for task_id in scenario.acknowledged[:400])
    for task_id in nobody_can:
        assert (await scenario.operator.task(task_id))["status"] == "queued"
        await scenario.operator.cancel(task_id)
