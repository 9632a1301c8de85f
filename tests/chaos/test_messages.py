"""A gateway is killed while messages are on their way: none is lost, and none is given out twice."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

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

    def __init__(self, client: httpx.AsyncClient, agents: list[SocketAgent]) -> None:
        self._client = client
        self._agents = agents
        self.expected: Counter[tuple[str, str]] = Counter()
        self.sent = 0

    async def send(self, n: int, rng: random.Random) -> None:
        """One message: most to one agent, some to all, some to the channel that all have subscribed to."""
        sender = rng.choice(self._agents)
        headers = {"authorization": f"Bearer {sender.token}"}
        chance = rng.random()
        to = [agent for agent in self._agents if agent is not sender]
        if chance < 0.8:
            to = [rng.choice(self._agents)]
            answer = await self._post("/api/message", {"payload": {"n": n}, "to": to[0].id}, headers)
        elif chance < 0.9:
            answer = await self._post("/api/message", {"payload": {"n": n}}, headers)
        else:
            answer = await self._post("/api/channels/all/publish", {"payload": {"n": n}}, headers)
        self.expected.update((agent.id, answer["id"]) for agent in to)
        self.sent += 1

    async def _post(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        response = await self._client.post(path, json=body, headers=headers)
        response.raise_for_status()
        answer: dict[str, Any] = response.json()
        return answer


async def poll(client: httpx.AsyncClient, agent: SocketAgent) -> list[str]:
    """What an agent finds in its mailbox beyond what it was sent before its connection broke."""
    first = [seen.frame for seen in agent.seen if seen.way == "in" and seen.connection == 1]
    cursor = max(
        (frame["seq"] if frame["type"] == "message" else frame["mail_seq"] for frame in first if frame["type"] in MAIL),
        default=0,
    )
    headers = {"authorization": f"Bearer {agent.token}"}
    response = await client.get(f"/api/mailbox/{agent.id}", params={"since": cursor}, headers=headers)
    response.raise_for_status()
    return [entry["id"] for entry in response.json()["messages"]]


@pytest.mark.parametrize("attempt", range(2))
async def test_sigkill_of_a_gateway_while_messages_are_in_flight(
    tmp_path: Path, rng: random.Random, attempt: int
) -> None:
    async with hub_of_its_own(tmp_path, ws_gateway=2, settings=SETTINGS) as scenario:
        agents = await scenario.fleet(AGENTS, first_gateway=0)
        async with httpx.AsyncClient(base_url=scenario.hub.api_url, timeout=30, trust_env=False) as client:
            headers = [{"authorization": f"Bearer {agent.token}"} for agent in agents]
            (await client.post("/api/channels", json={"name": "all"}, headers=headers[0])).raise_for_status()
            for one in headers:
                (await client.post("/api/channels/all/subscribe", headers=one)).raise_for_status()
            speaker = Speaker(client, agents)
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
                    got.update((agent.id, message_id) for message_id in await poll(client, agent))
                twice = {key: n for key, n in got.items() if n > 1}
                assert not twice, f"given out twice: {twice}"
                missing = speaker.expected - got
                assert not missing, f"{len(missing)} are nowhere, such as {next(iter(missing))}"
                assert got == speaker.expected

            await eventually(all_there, timeout=20)
        live = sum(len(agent.received(kind)) for agent in agents for kind in MAIL)
        print(f"{MESSAGES} messages: {live} deliveries live, {speaker.expected.total() - live} from mailboxes")
        await scenario.hub.one("ws_gateway").start()
