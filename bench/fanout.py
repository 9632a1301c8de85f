"""Broadcasts and posts to many agents of one gateway: deliveries a second, and how long one takes to reach everybody.

Run: ``python -m bench.fanout [--agents 200,1000] [--deliveries 100000] [--rounds 50]``. The agents share this machine
with the hub; they only count what they are sent, so that the gateway has most of a processor for itself. The processor
time that the gateway took for one delivery is printed beside the rate.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import time
from collections.abc import Awaitable, Callable

import orjson
import uvloop

from agentcom.settings import Settings
from agentcom.store.store import Store
from bench.clients import HttpClient, register
from bench.hub import Hub, running_hub
from bench.report import print_latencies, print_machine

TEXT, PING, PONG = 0x81, 0x89, 0x8A
STALL_S = 60.0
#: Messages on their way at the same time when the rate is measured.
AT_ONCE = 4
PAYLOAD = {"text": "a message of ordinary length, as agents send them to each other " * 3}


class Listener(asyncio.Protocol):
    """A socket that counts the frames it is sent, without looking into them."""

    def __init__(self, on_frames: Callable[[int], None]) -> None:
        self._on_frames = on_frames
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self.shaken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.identified: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(  # type: ignore[attr-defined]
            f"GET /ws HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            f"sec-websocket-key: {key}\r\nsec-websocket-version: 13\r\n\r\n".encode()
        )

    def send(self, payload: bytes, *, kind: int = TEXT) -> None:
        """One masked frame."""
        assert self._transport is not None
        assert len(payload) < 1 << 16
        size = len(payload)
        length = bytes((0x80 | size,)) if size < 126 else bytes((0x80 | 126,)) + size.to_bytes(2, "big")
        head = bytes((kind,)) + length + b"\x00\x00\x00\x00"
        self._transport.write(head + payload)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self.shaken.done():
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._buffer = self._buffer[end + 4 :]
            self.shaken.set_result(None)
        self._count()

    def _count(self) -> None:
        buffer, at, frames = self._buffer, 0, 0
        while len(buffer) - at >= 4:
            size, head = buffer[at + 1], 2
            if size == 126:
                size, head = int.from_bytes(buffer[at + 2 : at + 4], "big"), 4
            if len(buffer) - at < head + size:
                break
            payload = buffer[at + head : at + head + size]
            if buffer[at] == PING:
                self.send(payload, kind=PONG)
            elif not self.identified.done():
                self.identified.set_result(payload)
            else:
                frames += 1
            at += head + size
        self._buffer = buffer[at:]
        if frames:
            self._on_frames(frames)

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.shaken, self.identified):
            if not future.done():
                future.set_exception(exc or ConnectionError("closed by the hub"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Audience:
    """Agents on the gateway, and what they have been sent altogether."""

    def __init__(self) -> None:
        self.frames = 0
        self.listeners: list[Listener] = []
        self._wanted = 0
        self._reached = asyncio.Event()

    def heard(self, frames: int) -> None:
        self.frames += frames
        if self.frames >= self._wanted:
            self._reached.set()

    async def reach(self, frames: int) -> None:
        """Return when that many frames have arrived since the audience was made."""
        self._wanted = frames
        self._reached.clear()
        if self.frames < frames:
            async with asyncio.timeout(STALL_S):
                await self._reached.wait()

    async def join(self, hub: Hub, agent_id: str, token: str) -> None:
        loop = asyncio.get_running_loop()
        _, listener = await loop.create_connection(lambda: Listener(self.heard), "127.0.0.1", hub.gateway_port)
        await listener.shaken
        listener.send(orjson.dumps({"type": "identify", "agent_id": agent_id, "token": token}))
        answer = orjson.loads(await listener.identified)
        if answer["type"] != "identified":
            raise RuntimeError(f"{agent_id}: {answer}")
        self.listeners.append(listener)


async def one_round(
    label: str, hub: Hub, audience: Audience, say: Callable[[], Awaitable[object]], *, count: int, rounds: int
) -> None:
    """``say`` is called until ``count`` frames were delivered, then ``rounds`` times one after the other."""
    size = len(audience.listeners)
    messages = count // size
    before, numbers = audience.frames, iter(range(messages))
    cpu = hub.cpu_seconds()["ws_gateway"]
    started = time.perf_counter()

    async def keep_saying() -> None:
        for _ in numbers:
            await say()

    await asyncio.gather(*[keep_saying() for _ in range(AT_ONCE)])
    await audience.reach(before + messages * size)
    seconds = time.perf_counter() - started
    cpu = hub.cpu_seconds()["ws_gateway"] - cpu
    deliveries = messages * size
    print(
        f"{label}: {deliveries / seconds:8.0f} deliveries/s   gateway processor {cpu / deliveries * 1e6:5.1f} us a "
        f"delivery ({deliveries / cpu:.0f}/s of one processor)"
    )
    times = []
    for _ in range(rounds):
        began, before = time.perf_counter(), audience.frames
        await say()
        await audience.reach(before + size)
        times.append(time.perf_counter() - began)
    print_latencies(f"{label}, to the last agent", times)


async def run(hub: Hub, *, sizes: list[int], count: int, rounds: int) -> None:
    async with Store(hub.redis_url, Settings(namespace="bench")) as store:
        info = await store.blocking.info("server")
        print_machine(str(info.get("valkey_version") or info["redis_version"]))
    admin = await HttpClient.open(hub, hub.admin_token)
    speaker = await HttpClient.open(hub, await register(admin, "speaker"))
    await admin.request("POST", "/api/channels", {"name": "all"})
    audience = Audience()

    async def broadcast() -> None:
        await speaker.request("POST", "/api/message", {"payload": PAYLOAD})

    async def publish() -> None:
        await speaker.request("POST", "/api/channels/all/publish", {"payload": PAYLOAD})

    for size in sizes:
        while len(audience.listeners) < size:
            agent_id = f"agent-{len(audience.listeners)}"
            token = await register(admin, agent_id)
            await audience.join(hub, agent_id, token)
            client = await HttpClient.open(hub, token)
            await client.request("POST", "/api/channels/all/subscribe")
            client.close()
        await asyncio.sleep(1)  # who joined whom is told in the meantime
        await one_round(f"broadcast to {size:>5,} agents", hub, audience, broadcast, count=count, rounds=rounds)
        await one_round(f"post      to {size:>5,} agents", hub, audience, publish, count=count, rounds=rounds)
    for listener in audience.listeners:
        listener.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", default="200,1000")
    parser.add_argument("--deliveries", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=50)
    options = parser.parse_args()
    sizes = sorted(int(size) for size in options.agents.split(","))
    with running_hub() as hub:
        uvloop.run(run(hub, sizes=sizes, count=options.deliveries, rounds=options.rounds))


if __name__ == "__main__":
    main()
