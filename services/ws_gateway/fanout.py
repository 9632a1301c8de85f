"""What is for many sockets at once: broadcasts, posts on channels, and who listens to which channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentcom.store.gateways import OutboxEntry
from services.ws_gateway.letters import Letter, shared_letter
from services.ws_gateway.registry import Registry

if TYPE_CHECKING:
    from services.ws_gateway.connection import SocketConnection

#: Kinds of outbox entries that are not just pushed to one connection.
KINDS = frozenset({"broadcast", "post", "joined", "listen", "unlisten", "deleted"})


class Fanout:
    """Hands one frame to all its sockets.

    Subscriptions and posts arrive in the same stream, in the order in which the store made them: a socket gets exactly
    the posts made after its subscription. ``latest`` is the number of the last broadcast or post handed over.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._listeners: dict[str, dict[str, SocketConnection]] = {}
        self._channels: dict[str, set[str]] = {}
        self.latest = 0

    def take(self, entry: OutboxEntry) -> None:
        """One entry of the gateway's outbox, of one of ``KINDS``."""
        match entry.kind:
            case "broadcast":
                letter = shared_letter(entry)
                for connection in self._registry.sockets():
                    connection.post(letter)
                self.latest = letter.seq
            case "post":
                self._post(entry.channel, shared_letter(entry))
            case "joined":
                for connection in self._listening(entry.channel):
                    if connection.session.agent_id != entry.sender:
                        connection.offer(entry.frame)
            case "listen":
                self._listen(entry)
            case "unlisten":
                self._unlisten(entry.conn, entry.channel)
            case "deleted":
                for conn in list(self._listeners.get(entry.channel, ())):
                    self._unlisten(conn, entry.channel)

    def forget(self, connection: SocketConnection) -> None:
        """A socket has ended."""
        for channel in list(self._channels.get(connection.conn, ())):
            self._unlisten(connection.conn, channel)

    def _post(self, channel: str, letter: Letter) -> None:
        for connection in self._listening(channel):
            connection.post(letter)
        self.latest = letter.seq

    def _listening(self, channel: str) -> list[SocketConnection]:
        return list(self._listeners.get(channel, {}).values())

    def _listen(self, entry: OutboxEntry) -> None:
        """``channel`` names one channel, or several with blanks between them."""
        connection = self._registry.get(entry.conn)
        if connection is None:
            return
        for channel in entry.channel.split(" "):
            self._listeners.setdefault(channel, {})[entry.conn] = connection
            self._channels.setdefault(entry.conn, set()).add(channel)

    def _unlisten(self, conn: str, channel: str) -> None:
        listeners, channels = self._listeners.get(channel), self._channels.get(conn)
        if listeners is not None:
            listeners.pop(conn, None)
            if not listeners:
                del self._listeners[channel]
        if channels is not None:
            channels.discard(channel)
            if not channels:
                del self._channels[conn]
