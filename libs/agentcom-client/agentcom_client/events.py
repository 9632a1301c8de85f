"""What the hub pushes to an agent."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from agentcom_client.connection import Connection
from agentcom_client.errors import HubError, HubUnreachable
from agentcom_client.types import Frame

PING_EVERY_S: Final = 20.0
#: The HTTP statuses that go with refusals of an identify; any other code is a mistake in a field of it.
STATUSES: Final = {"invalid_token": 401, "token_agent_mismatch": 401, "store_unavailable": 503}
MISTAKEN: Final = 422


async def agent_events(
    connection: Connection, agent_id: str, *, presence: bool, fields: Mapping[str, Any]
) -> AsyncIterator[Frame]:
    """Frames until the hub closes the socket. Raises HubError if it refuses the agent, HubUnreachable if it is away."""
    token = connection.token or ""
    try:
        async with connect(**connection.for_websocket) as socket:
            subscribe = ["presence"] if presence else []
            identify = {"type": "identify", "agent_id": agent_id, "token": token, "subscribe": subscribe, **fields}
            await socket.send(json.dumps(identify))
            pinging = asyncio.create_task(_ping(socket))
            try:
                async for text in socket:
                    frame = _frame(text, connection)
                    match frame.get("type"):
                        case "error" if frame.get("request_type") == "identify":
                            code = str(frame.get("code"))
                            raise HubError(STATUSES.get(code, MISTAKEN), code, str(frame.get("message")), frame)
                        case "identified" | "pong":
                            continue
                    yield frame
            finally:
                pinging.cancel()
    except (OSError, WebSocketException) as error:
        if not isinstance(error, ConnectionClosed):
            raise HubUnreachable(
                f"The hub at {connection.url} takes no WebSocket: {error}", maybe_done=False
            ) from error


def _frame(text: str | bytes, connection: Connection) -> Frame:
    with contextlib.suppress(ValueError):
        frame = json.loads(text)
        if isinstance(frame, dict):
            return frame
    raise HubUnreachable(f"What answers at {connection.url} is no hub.", maybe_done=False)


async def _ping(socket: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            await asyncio.sleep(PING_EVERY_S)
            await socket.send('{"type":"ping"}')
