"""Frames whose writing matters: the store keeps a message until it hears that a socket has taken it."""

from __future__ import annotations

from dataclasses import dataclass

from agentcom.store.gateways import OutboxEntry

_FINAL_TEXT = 0x81
_SHORT, _MEDIUM = 126, 1 << 16


@dataclass(frozen=True, slots=True)
class Letter:
    """A message as a frame, made once for all sockets that it goes to.

    ``message_id`` is '' for broadcasts and posts, of which the store keeps no state by recipient. ``wire`` is the whole
    WebSocket frame, for those. ``sender`` does not get its own.
    """

    text: str
    seq: int
    message_id: str = ""
    sender: str = ""
    wire: bytes = b""

    def is_for(self, agent_id: str, *, after: int) -> bool:
        """Whether an agent that connected when ``after`` was the latest number is to get it."""
        return self.seq > after and not (self.sender and self.sender == agent_id)


def direct_letter(entry: OutboxEntry) -> Letter:
    """A message to one agent."""
    return Letter(entry.frame.decode(errors="replace"), entry.seq, message_id=entry.message_id)


def shared_letter(entry: OutboxEntry) -> Letter:
    """A broadcast or post."""
    return Letter(entry.frame.decode(errors="replace"), entry.seq, sender=entry.sender, wire=text_frame(entry.frame))


def text_frame(payload: bytes) -> bytes:
    """A text message as one WebSocket frame of a server: not masked, not compressed."""
    size = len(payload)
    if size < _SHORT:
        head = bytes((_FINAL_TEXT, size))
    elif size < _MEDIUM:
        head = bytes((_FINAL_TEXT, _SHORT)) + size.to_bytes(2, "big")
    else:
        head = bytes((_FINAL_TEXT, _SHORT + 1)) + size.to_bytes(8, "big")
    return head + payload
