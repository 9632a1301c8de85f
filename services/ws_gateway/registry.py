"""The sockets of this process, by connection id."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from services.ws_gateway.connection import SocketConnection


def new_connection_id() -> str:
    """Random, so that no two sockets of any gateway ever share one."""
    return secrets.token_urlsafe(12)


class Registry:
    """Who is here. Removing compares: only the very connection that is registered under an id is removed."""

    def __init__(self) -> None:
        self._connections: dict[str, SocketConnection] = {}
        self._identified: dict[str, SocketConnection] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def add(self, connection: SocketConnection) -> None:
        """A socket was opened."""
        self._connections[connection.conn] = connection
        self._empty.clear()

    def identified(self, connection: SocketConnection) -> None:
        """A socket's agent is known."""
        self._identified[connection.conn] = connection

    def forget_agent(self, connection: SocketConnection) -> None:
        """A socket's agent is not spoken for any more; the socket may still be closing."""
        if self._identified.get(connection.conn) is connection:
            del self._identified[connection.conn]

    def remove(self, connection: SocketConnection) -> None:
        """A socket has ended."""
        self.forget_agent(connection)
        if self._connections.get(connection.conn) is connection:
            del self._connections[connection.conn]
            if not self._connections:
                self._empty.set()

    def get(self, conn: str) -> SocketConnection | None:
        return self._connections.get(conn)

    def sockets(self) -> list[SocketConnection]:
        """Every open socket, at this moment."""
        return list(self._connections.values())

    def agents(self) -> list[SocketConnection]:
        """Every socket with an identified agent, at this moment."""
        return list(self._identified.values())

    @property
    def agent_count(self) -> int:
        return len(self._identified)

    def close_all(self, sockets: Iterable[SocketConnection], *, code: int, reason: str) -> None:
        for connection in sockets:
            connection.close(code, reason)

    async def wait_empty(self) -> None:
        """Return when no socket is left."""
        await self._empty.wait()
