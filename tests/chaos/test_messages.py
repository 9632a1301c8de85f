"""A gateway is killed while messages are on their way: none is lost, and none is given out twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agentcom_client import AsyncClient
from tests.support.agent import SocketAgent
from tests.support.eventually import eventually
from tests.support.scenario import hub_of_its_own

pytestmark = pytest.mark.chaos

MAIL = ("message", "channel_message")
AGENTS = 20
MESSAGES = 1_000
SETTINGS = {"rate_light": 0, "rate_normal": 0, "rate_heavy": 0, "mailbox_cap": 1_000}


class Speaker:
    """Sends messages of all kinds over HTTP and keeps who is to get what was acknowledged, as (agent, message)."""

    def __init__(self, clients: dict[str, AsyncClient]) -> None:
        """``clients``: each agent's own, by its id."""
        self._clients = clients
        self.expected: Counter[tuple[str, str]] = Counter()
        self.sent = 0

    async def send(self, n: int, rng: random.Random) -> None:
        """One message: most to one agent, some to all, some to the channel that all have subscribed to."""
        agents = list(self._clients)
        sender = rng.choice(agents)
        client = self._clients[sender]
        chance = rng.random()
        to = [agent for agent in agents if agent != sender]
        if chance < 0.8:
            to = [rng.choice(agents)]
            message_id = await client.send({"n": n}, to=to[0])
        elif chance < 0.9:
            message_id = await client.send({"n": n})
        else:
            message_id = (await client.publish("all", {"n": n}))["id"]
        self.expected.update((agent, message_id) for agent in to)
        self.sent += 1


async def poll(client: AsyncClient, agent: SocketAgent) -> list[str]:
    """What an agent finds in its mailbox beyond what it was sent before its connection broke."""
    first = [seen.frame for seen in agent.seen if seen.way == "in" and seen.connection == 1]
    cursor = max(
        (frame["seq"] if frame["type"] == "message" else frame["mail_seq"] for frame in first if frame["type"] in MAIL),
        default=0,
    )
    return [mail["id"] for mail in await client.mailbox(agent.id, since=cursor)]


@pytest.mark.parametrize("attempt", range(2))
async def test_sigkill_of_a_gateway_while_messages_are_in_flight(
    tmp_path: Path, rng: random.Random, attempt: int
) -> None:
    async with hub_of_its_own(tmp_path, ws_gateway=2, settings=SETTINGS) as scenario:
        agents = await scenario.fleet(AGENTS, first_gateway=0)
        async with AsyncExitStack() as stack:
            clients = {
                agent.id: await stack.enter_async_context(
                    AsyncClient(scenario.hub.api_url, token=agent.token, trust_env=False)
                )
                for agent in agents
            }
            await clients[agents[0].id].create_channel("all")
            for client in clients.values():
                await client.subscribe("all")
            speaker = Speaker(clients)
            numbers = iter(range(MESSAGES))

            async def keep_sending() -> None:
                for n in numbers:
                    await speaker.send(n, rng)

            sending = [asyncio.create_task(keep_sending()) for _ in range(32)]
            await eventually(lambda: speaker.sent > MESSAGES * rng.uniform(0.2, 0.6), timeout=60)
            scenario.hub.one("ws_gateway").kill()
            await asyncio.gather(*sending)
            await eventually(lambda: all(agent.identified and agent.connections == 2 for agent in agents), timeout=30)
            assert speaker.sent == MESSAGES

            async def all_there() -> None:
                got: Counter[tuple[str, str]] = Counter()
                for agent in agents:
                    got.update((agent.id, frame["id"]) for kind in MAIL for frame in agent.received(kind))
                    got.update((agent.id, message_id) for message_id in await poll(clients[agent.id], agent))
                twice = {key: n for key, n in got.items() if n > 1}
                assert not twice, f"given out twice: {twice}"
                missing = speaker.expected - got
                assert not missing, f"{len(missing)} are nowhere, such as {next(iter(missing))}"
                assert got == speaker.expected

            await eventually(all_there, timeout=20)
        live = sum(len(agent.received(kind)) for agent in agents for kind in MAIL)
        print(f"{MESSAGES} messages: {live} deliveries live, {speaker.expected.total() - live} from mailboxes")
        await scenario.hub.one("ws_gateway").start()
