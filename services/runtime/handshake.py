"""Refusing a WebSocket before it is one."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, Final

import orjson

CLOSING_S: Final = 1.0


async def refuse_handshake(
    scope: Mapping[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    *,
    status: int,
    document: Mapping[str, Any],
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    """Answers the handshake with an HTTP response, or with the server's own refusal if it can't do that."""
    await receive()  # websocket.connect
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close"})
        return
    body = orjson.dumps(document)
    sent = [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "websocket.http.response.start", "status": status, "headers": sent})
    await send({"type": "websocket.http.response.body", "body": body})
    # uvicorn logs an error if the application returns before the connection is gone, which it says twice.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSING_S):
            await receive()
            await receive()
