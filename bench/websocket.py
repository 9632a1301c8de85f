"""The least of a WebSocket client: a library's would take as much processor time as the gateway that is measured."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Callable

_TEXT, _CLOSE, _PING, _PONG = 0x81, 0x88, 0x89, 0x8A


def _masked(opcode: int, payload: bytes) -> bytes:
    """A frame of a client, with a mask of zeros: it leaves the payload as it is."""
    size = len(payload)
    if size < 126:
        return bytes((opcode, 0x80 | size, 0, 0, 0, 0)) + payload
    if size < 1 << 16:
        return bytes((opcode, 0xFE)) + size.to_bytes(2, "big") + b"\0\0\0\0" + payload
    return bytes((opcode, 0xFF)) + size.to_bytes(8, "big") + b"\0\0\0\0" + payload


class WebSocket(asyncio.Protocol):
    """One connection; every text frame is handed to ``on_text`` as it comes. The server's frames are not fragmented."""

    def __init__(self, path: str, on_text: Callable[[bytes], None]) -> None:
        self.closed = False
        self._path = path
        self._on_text = on_text
        self._buffer = bytearray()
        self._open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def connect(cls, host: str, port: int, path: str, on_text: Callable[[bytes], None]) -> WebSocket:
        """Returns once the handshake is done."""
        _, socket = await asyncio.get_running_loop().create_connection(lambda: cls(path, on_text), host, port)
        await socket._open
        return socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        key = base64.b64encode(os.urandom(16)).decode()
        self._write(
            f"GET {self._path} HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            f"sec-websocket-version: 13\r\nsec-websocket-key: {key}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if not self._open.done():
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            if not buffer.startswith(b"HTTP/1.1 101"):
                self._open.set_exception(ConnectionError(bytes(buffer[:end]).decode()))
                return
            del buffer[: end + 4]
            self._open.set_result(None)
        while len(buffer) >= 2:
            size, start = buffer[1], 2
            if size == 126:
                size, start = int.from_bytes(buffer[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(buffer[2:10], "big"), 10
            if len(buffer) < start + size:
                return
            opcode, payload = buffer[0], bytes(buffer[start : start + size])
            del buffer[: start + size]
            if opcode == _TEXT:
                self._on_text(payload)
            elif opcode == _PING:
                self._write(_masked(_PONG, payload))

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if not self._open.done():
            self._open.set_exception(exc or ConnectionError("closed by the hub"))

    def send(self, *payloads: bytes) -> None:
        """Writes text frames at once."""
        self._write(b"".join([_masked(_TEXT, payload) for payload in payloads]))

    def close(self) -> None:
        if self._transport is not None:
            self._write(_masked(_CLOSE, (1000).to_bytes(2, "big")))
            self._transport.close()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
