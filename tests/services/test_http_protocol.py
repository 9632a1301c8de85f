"""What arrives on an HTTP port before it is a request: too much, too slowly, or no HTTP at all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
import uvloop

from services.runtime import http_protocol
from services.runtime.http_server import HttpServer
from tests.support.eventually import eventually

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n"
PATIENCE_S = 20


class App:
    """Answers 200, once ``may_answer`` is set and ends that once ``may_end`` is; or waits for its client to leave."""

    def __init__(self) -> None:
        self.asked = 0
        self.answered = 0
        self.left = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.awaits_departure = False

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        if self.awaits_departure:
            while (await receive())["type"] != "http.disconnect":
                pass
            self.left += 1
            return
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await self.may_end.wait()
        await send({"type": "http.response.body", "body": b"ok"})
        self.answered += 1


@pytest.fixture
def app() -> App:
    return App()


@asynccontextmanager
async def serving(app: App) -> AsyncIterator[int]:
    """The port on which it is served."""
    server = HttpServer(app, host="127.0.0.1", port=0, lifespan="off", drain_timeout=1)
    server.bind()
    stop = asyncio.Event()
    running = asyncio.create_task(server.run(stop))
    yield server.port
    stop.set()
    await running


@pytest.fixture
async def port(app: App) -> AsyncIterator[int]:
    async with serving(app) as port:
        yield port


async def exchange(port: int, *pieces: bytes) -> bytes:
    """Writes the pieces, each for a read of its own, and reads until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE_S):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)
            return await reader.read()
    finally:
        writer.close()


def refused(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head
    assert b"connection: close" in head
    told = orjson.loads(body)
    assert told["message"]
    return int(head.split(b" ")[1]), told["error"]


@pytest.mark.parametrize(
    "junk",
    [
        b"\x16\x03\x01\x02\x00\r\n\r\n",  # TLS to a port that has none
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        REQUEST + b"content-length: -1\r\n\r\n",
        REQUEST + b"content-length: 1\r\ncontent-length: 2\r\n\r\n",
        REQUEST + b"x: a\0b\r\n\r\n",
        "GET /é HTTP/1.1\r\n\r\n".encode("latin-1"),
    ],
)
async def test_what_is_no_request_is_told_so_in_json(port: int, junk: bytes) -> None:
    assert refused(await exchange(port, junk)) == (400, "invalid_http")


@pytest.mark.parametrize("line", [b"x: " + b"a" * 30_000, b"x: a\r\n" * 5_000], ids=["one header", "many headers"])
async def test_a_head_has_an_end(port: int, app: App, line: bytes) -> None:
    with pytest.raises(ConnectionError):
        await exchange(port, REQUEST, *[line] * 10_000)
    assert app.asked == 0


async def test_a_head_that_is_too_large_is_told_so(port: int, app: App) -> None:
    piece = b"x: " + b"a" * 30_000 + b"\r\n"
    assert refused(await exchange(port, REQUEST, piece, piece, piece)) == (431, "headers_too_large")
    assert app.asked == 0


@pytest.mark.parametrize("headers", [b"x: " + b"a" * 9_000 + b"\r\n", b"x: a\r\n" * 150], ids=["long", "many"])
async def test_the_handshake_of_a_socket_with_too_much_in_its_head_is_told_so(
    port: int, app: App, headers: bytes
) -> None:
    upgrade = (
        b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    assert refused(await exchange(port, REQUEST + upgrade + headers + b"\r\n")) == (431, "headers_too_large")
    assert app.asked == 0


async def test_what_is_large_behind_a_head_is_none_of_it(port: int, app: App) -> None:
    body = b"x" * 400_000
    post = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    await exchange(port, post[:20], post[20:] + body + post + body + REQUEST, b"connection: close\r\n\r\n")
    assert app.answered == 3


@pytest.mark.parametrize("pieces", [[], [b"GET / HT"], [REQUEST + b"\r\n", REQUEST]], ids=["none", "first", "second"])
async def test_a_head_that_does_not_come_is_not_waited_for(
    port: int, monkeypatch: pytest.MonkeyPatch, pieces: list[bytes]
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_TIMEOUT_S", 0.2)
    answer = await exchange(port, *pieces)
    if not pieces:
        assert answer == b""
        return
    assert refused(answer[answer.rindex(b"HTTP/1.1") :]) == (408, "head_timeout")


async def test_a_long_request_outlives_the_time_for_its_head(
    port: int, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_protocol, "HEAD_TIMEOUT_S", 0.05)
    app.may_answer.clear()
    asking = asyncio.create_task(exchange(port, REQUEST + b"connection: close\r\n\r\n"))
    await eventually(lambda: app.asked == 1)
    await asyncio.sleep(0.2)
    app.may_answer.set()
    assert (await asking).endswith(b"ok")


class Segments(asyncio.Protocol):
    """What arrives, as it arrives."""

    def __init__(self) -> None:
        self.received: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.received.append(data)


async def test_an_answer_is_one_segment(port: int) -> None:
    transport, segments = await asyncio.get_running_loop().create_connection(Segments, "127.0.0.1", port)
    for _ in range(2):  # on a connection that is kept, too
        segments.received.clear()
        transport.write(REQUEST + b"\r\n")
        await eventually(lambda: b"".join(segments.received).endswith(b"ok"))
        assert len(segments.received) == 1
    transport.close()


async def test_a_head_does_not_wait_for_its_body(port: int, app: App) -> None:
    app.may_end.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST + b"\r\n")
    async with asyncio.timeout(PATIENCE_S):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        app.may_end.set()
        assert await reader.readexactly(2) == b"ok"
    writer.close()


def test_nothing_is_written_for_a_client_that_has_left(app: App) -> None:
    """On the loop of the services, which takes a write to a closed connection for an error."""
    errors: list[dict[str, Any]] = []

    async def ask_and_leave() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        async with serving(app) as port:
            for _ in range(5):
                with socket.create_connection(("127.0.0.1", port)) as client:
                    client.sendall(REQUEST + b"\r\n" + REQUEST.replace(b"GET", b"HEAD") + b"\r\n")
            await eventually(lambda: app.answered == 10)
            await exchange(port, REQUEST + b"connection: close\r\n\r\n")

    uvloop.run(ask_and_leave())
    assert errors == []


async def test_a_request_learns_that_its_client_has_left_though_more_were_waiting(port: int, app: App) -> None:
    app.awaits_departure = True
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write((REQUEST + b"\r\n") * 3)
    await writer.drain()
    await eventually(lambda: app.asked == 1)
    writer.transport.abort()
    await eventually(lambda: app.left == 1)
