"""What the gateway's tests share: a running gateway, and a client that sends and receives one frame at a time."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from agentcom.errors import AgentExists
from agentcom.settings import Settings
from agentcom.store.store import Store
from agentcom.store.tokens import Role
from services.runtime import Backoff, Supervisor, health_app
from services.ws_gateway.app import create_app
from services.ws_gateway.gateway import Gateway
from services.ws_gateway.service import socket_server
from tests.support.builders import a_task, serve_matches

Frame = dict[str, Any]
PATIENCE_S = 15.0
#: Come when they like, a tenth of a second after what they tell or later.
PRESENCE = frozenset({"agent_joined", "status_changed", "agent_left"})


class Client:
    """One socket. Frames that a test did not ask for yet stay in line."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        #: Received frames of other types than those waited for, oldest first.
        self.passed: list[Frame] = []

    async def send(self, frame: Frame | str | bytes) -> None:
        await self.socket.send(frame if isinstance(frame, str | bytes) else orjson.dumps(frame).decode())

    async def receive(self) -> Frame:
        """The next frame, whatever it is."""
        async with asyncio.timeout(PATIENCE_S):
            frame: Frame = orjson.loads(await self.socket.recv())
        return frame

    async def until(self, *kinds: str) -> Frame:
        """The next frame of one of these types; others are put aside."""
        while (frame := await self.receive())["type"] not in kinds:
            self.passed.append(frame)
        return frame

    async def ask(self, frame: Frame | str | bytes, *kinds: str) -> Frame:
        """Sends a frame and returns the next one that is not about who comes and goes, or the next of these types."""
        await self.send(frame)
        if kinds:
            return await self.until(*kinds)
        while (answer := await self.receive())["type"] in PRESENCE:
            self.passed.append(answer)
        return answer

    async def closed(self) -> tuple[int, str]:
        """The close code and reason that the hub sends; frames before are put aside."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.passed.append(await self.receive())
        closing = self.socket.protocol.close_rcvd
        assert closing is not None, "the connection broke without a close frame"
        return closing.code, closing.reason

    async def finish(self, assignment: Frame, **fields: Any) -> Frame:
        """Accepts and completes an assignment; returns the ack of the completion."""
        about = {"task_id": assignment["task_id"], "generation": assignment["generation"]}
        await self.ask({"type": "task_accepted", **about}, "task_ack")
        return await self.ask({"type": "task_complete", **about, **fields}, "task_ack", "error")


class GatewayHub:
    """A gateway under its supervisor, and a store of the test's own."""

    def __init__(self, redis_url: str, namespace: str, **settings: Any) -> None:
        unlimited = {"rate_light": 0, "rate_normal": 0}
        chosen = {"redis_url": redis_url, "namespace": namespace, "port": 0, **unlimited, **settings}
        self.settings = Settings(**chosen)
        self.redis_url = redis_url
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> GatewayHub:
        stack = self._stack
        self.store = await stack.enter_async_context(Store(self.redis_url, self.settings))
        self.gateway_store = await stack.enter_async_context(Store(self.redis_url, self.settings))
        self.gateway = Gateway(self.gateway_store, self.settings)
        self.supervisor = Supervisor("test", self.gateway.components, backoff=Backoff(first=0.01, cap=0.05))
        app = create_app(self.gateway, fallback=health_app(self.supervisor))
        server = socket_server(app, self.settings, self.gateway)
        self.supervisor.add(server)
        self.running = asyncio.create_task(self.supervisor.run())
        await self.supervisor.wait_ready()
        self.port = server.port
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self.running.done():
            self.supervisor.request_stop("the test is over")
        await self.running
        await self._stack.aclose()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def token(self, agent_id: str) -> str:
        """A new token of the agent."""
        try:
            return await self.store.tokens.register(agent_id, role=Role.AGENT)
        except AgentExists:
            return await self.store.tokens.mint(agent_id, role=Role.AGENT)

    async def stranger(self, **options: Any) -> Client:
        """A connected socket without an identity."""
        chosen = {"compression": None, "proxy": None, "ping_interval": None, "max_queue": None, "close_timeout": 2}
        return Client(await connect(self.url, **(chosen | options)))

    async def agent(self, agent_id: str, *, token: str | None = None, **fields: Any) -> Client:
        """An identified agent, with its part in the matching done."""
        client = await self.stranger()
        identify = {"type": "identify", "agent_id": agent_id, "token": token or await self.token(agent_id), **fields}
        frame = await client.ask(identify)
        assert frame["type"] == "identified", frame
        await serve_matches(self.store)
        return client

    async def submit(self, **fields: Any) -> str:
        return (await self.store.tasks.submit(a_task(**fields))).task_id

    async def agent_ids(self) -> list[str]:
        """Who is connected, as the store has it."""
        return [agent.id for agent in (await self.store.agents.page(cursor=None, limit=1_000)).agents]
