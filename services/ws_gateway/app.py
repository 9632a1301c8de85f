"""The ASGI application: ``/ws`` for agents, other plain requests to another application, if there is one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import orjson

from services.runtime import refuse_handshake
from services.ws_gateway.connection import Receive
from services.ws_gateway.gateway import Gateway
from services.ws_gateway.outbound_queue import SendMessage

Scope: TypeAlias = dict[str, Any]
AsgiApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

PATH: Final = "/ws"

Response: TypeAlias = tuple[int, dict[str, Any], list[tuple[bytes, bytes]]]

_UPGRADE_REQUIRED: Final[Response] = (
    426,
    {"error": "upgrade_required", "message": "This is a WebSocket endpoint; connect to it with ws:// or wss://."},
    [(b"upgrade", b"websocket"), (b"connection", b"upgrade")],
)
_NOT_FOUND: Final[Response] = (
    404,
    {"error": "not_found", "message": "There is nothing here; agents connect to /ws."},
    [],
)
_UNAVAILABLE: Final[Response] = (
    503,
    {
        "error": "gateway_unavailable",
        "message": "This gateway takes no agents at the moment; try again.",
        "retryable": True,
    },
    [(b"retry-after", b"1")],
)


def create_app(gateway: Gateway, *, fallback: AsgiApp | None = None) -> AsgiApp:
    """``fallback`` gets every plain request that is not for ``/ws``, and the lifespan."""

    async def app(scope: Scope, receive: Receive, send: SendMessage) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            if fallback is None:
                await _lifespan(receive, send)
            else:
                await fallback(scope, receive, send)
        elif scope["path"] == scope.get("root_path", "") + PATH:
            if kind == "websocket":
                await _serve_socket(gateway, scope, receive, send)
            else:
                await _respond(send, _UPGRADE_REQUIRED)
        elif kind == "websocket":
            await _refuse_socket(scope, receive, send, _NOT_FOUND)
        elif fallback is not None:
            await fallback(scope, receive, send)
        else:
            await _respond(send, _NOT_FOUND)

    return app


async def _serve_socket(gateway: Gateway, scope: Scope, receive: Receive, send: SendMessage) -> None:
    if not gateway.accepting:
        await _refuse_socket(scope, receive, send, _UNAVAILABLE)
        return
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})
    scope["headers"] = []  # sockets live long, and the server keeps the scope as long
    await gateway.serve(scope, receive=receive, send=send)


async def _refuse_socket(scope: Scope, receive: Receive, send: SendMessage, response: Response) -> None:
    status, document, headers = response
    await refuse_handshake(scope, receive, send, status=status, document=document, headers=headers)


async def _respond(send: SendMessage, response: Response) -> None:
    status, document, extra = response
    body = orjson.dumps(document)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(receive: Receive, send: SendMessage) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
