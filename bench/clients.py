"""Load on a hub with as little processor time of its own as can be: it shares the machine with what it measures."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson

from bench.hub import Hub
from bench.websocket import WebSocket


class HttpClient(asyncio.Protocol):
    """One kept-alive connection to the api; answers arrive in the order of the requests."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._waiting: deque[asyncio.Future[tuple[int, bytes]]] = deque()
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, hub: Hub, token: str) -> HttpClient:
        _, client = await asyncio.get_running_loop().create_connection(lambda: cls(token), "127.0.0.1", hub.api_port)
        return client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._buffer[:end]).lower()
            at = head.index(b"content-length:") + 15
            length = int(head[at:].split(b"\r\n", 1)[0])
            if len(self._buffer) < end + 4 + length:
                return
            body = bytes(self._buffer[end + 4 : end + 4 + length])
            del self._buffer[: end + 4 + length]
            self._waiting.popleft().set_result((int(head[9:12]), body))

    def connection_lost(self, exc: Exception | None) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_exception(exc or ConnectionError("closed by the hub"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def request(self, method: str, path: str, body: object = None) -> Any:
        """The JSON answer. Raises :class:`RuntimeError` for anything but 2xx."""
        if self._transport is None:
            raise ConnectionError("not connected")
        content = b"" if body is None else orjson.dumps(body)
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {self._token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        future: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._transport.write(head.encode() + content)
        status, answer = await future
        if not 200 <= status < 300:
            raise RuntimeError(f"{method} {path}: {status} {answer[:300]!r}")
        return orjson.loads(answer)


class BenchAgent:
    """An agent that accepts and completes whatever it is given, at once."""

    def __init__(self, agent_id: str, token: str, on_assign: Callable[[str, float], None]) -> None:
        self.agent_id = agent_id
        self.completed = 0
        self._token = token
        self._on_assign = on_assign
        self._socket: WebSocket | None = None
        self._identified: asyncio.Future[None] | None = None
        self._error: str | None = None

    async def start(self, hub: Hub, capabilities: list[str]) -> None:
        """Connects and identifies."""
        self._identified = asyncio.get_running_loop().create_future()
        self._socket = await WebSocket.connect("127.0.0.1", hub.gateway_port, "/ws", self._take)
        identify = {"type": "identify", "agent_id": self.agent_id, "token": self._token, "capabilities": capabilities}
        self._socket.send(orjson.dumps(identify))
        await self._identified

    def _take(self, payload: bytes) -> None:
        frame = orjson.loads(payload)
        if frame["type"] == "task_assign":
            self._on_assign(frame["task_id"], time.perf_counter())
            task_id, generation = frame["task_id"].encode(), frame["generation"]
            if self._socket is not None:
                self._socket.send(
                    b'{"type":"task_accepted","task_id":"%b"}' % task_id,
                    b'{"type":"task_complete","task_id":"%b","generation":%d,"result":{"ok":true}}'
                    % (task_id, generation),
                )
        elif frame["type"] == "task_ack":
            self.completed += frame["status"] == "complete"
        elif frame["type"] == "identified" and self._identified is not None:
            self._identified.set_result(None)
        elif frame["type"] == "error":
            self._error = f"{self.agent_id}: {frame}"

    def check(self) -> None:
        """Raises what went wrong, if anything did."""
        if self._error is not None or (self._socket is not None and self._socket.closed):
            raise RuntimeError(self._error or f"{self.agent_id}: closed by the hub")

    async def stop(self) -> None:
        if self._socket is not None:
            self._socket.close()


async def register(admin: HttpClient, agent_id: str) -> str:
    """Registers an agent and returns its token."""
    answer = await admin.request("POST", "/api/onboard/register", {"agent_id": agent_id})
    return str(answer["token"])
