"""uvicorn's HTTP connection, with bounds on the head of a request and JSON for what is no request at all."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

#: Request line and headers together. A head that comes in one read, at most 256 KiB, is not measured.
MAX_HEAD_BYTES: Final = 64 * 1024
#: For the first request of a connection to begin, and for each head to be complete once it has begun.
HEAD_TIMEOUT_S: Final = 30.0

_REASONS: Final = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class _OneWrite:
    """A transport for one response: its head and the first piece of its body, which uvicorn writes one by one, go out
    together, for half the system calls on both sides. A body that is not there at once does not keep its head waiting.
    """

    __slots__ = ("_flushing", "_head", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head: bytes | None = None
        self._flushing: asyncio.Handle | None = None

    def write(self, data: bytes) -> None:
        if self._head is not None:
            head, self._head = self._head, None
            self._transport.writelines((head, data))
        elif self._flushing is None:
            self._head = data
            self._flushing = self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def _flush(self) -> None:
        if self._head is not None and not self._transport.is_closing():
            head, self._head = self._head, None
            self._transport.write(head)


class HttpProtocol(HttpToolsProtocol):
    """One connection.

    The parser joins the pieces of a header each time one arrives, so a head without end would cost ever more time per
    byte, and memory, before anybody has shown a token. A connection that asks nothing would be kept for ever.
    """

    _in_head = False
    _head_began = False
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _running: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        if self._running is not None:  # uvicorn tells only the newest of pipelined requests
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._head_began = False
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._await_head(len(data))

    def on_message_begin(self) -> None:
        self._in_head = self._head_began = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._head_timer is not None:
            self._stop_head_timer()
        super().on_headers_complete()

    def _await_head(self, received: int) -> None:
        if self._head_began:  # behind the end of another request, perhaps: how much of it is head is not known
            self._head_bytes = 0
        else:
            self._head_bytes += received
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431, "headers_too_large", f"The request's headers are larger than {MAX_HEAD_BYTES} bytes.")
        elif self._head_timer is None:
            self._start_head_timer()

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._on_head_timeout)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_head_timeout(self) -> None:
        self._head_timer = None
        if self._in_head:
            self._refuse(408, "head_timeout", f"The request's head took longer than {HEAD_TIMEOUT_S:g} seconds.")
        else:
            self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        cycle.transport = _OneWrite(self.transport, self.loop)  # type: ignore[assignment]
        super()._start_asgi_task(cycle, app)

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        socket = self.transport.get_protocol()
        if isinstance(socket, WebSocketsSansIOProtocol) and not socket.handshake_initiated:
            # Its own parser takes fewer and shorter headers, and says nothing when there is more.
            self._refuse(431, "headers_too_large", "The handshake has too many headers, or one that is too long.")

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "invalid_http", msg)

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._stop_head_timer()
        if self.transport.is_closing():
            return
        body = orjson.dumps({"error": code, "message": message})
        head = (
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: %d\r\n"
            b"connection: close\r\n\r\n"
        )
        self.transport.write(head % (status, _REASONS[status], len(body)) + body)
        self.transport.close()
