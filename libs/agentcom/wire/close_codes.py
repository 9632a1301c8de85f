"""Every close code that the hub sends on a WebSocket, in one table.

A client needs no list to know what to do: 4000-4499 and the standard codes mean reconnect with back-off, 4500-4999 mean
that reconnecting is of no use. (3000-3499 and 3500-3999 are set aside for the same two meanings.)
"""

from __future__ import annotations

from enum import IntEnum

#: The longest close reason that fits into a close frame, in bytes of UTF-8.
MAX_REASON_BYTES = 123

_TERMINAL = (range(3500, 4000), range(4500, 5000))


class CloseCode(IntEnum):
    """Why a socket is closed."""

    VIOLATIONS = 1008  #: too many invalid frames or identify attempts, or a cooldown; reconnect after the cooldown
    FRAME_TOO_BIG = 1009  #: a message is larger than max_frame_bytes, or comes in thousands of fragments
    SHUTTING_DOWN = 1012  #: this gateway stops; another one takes over
    SLOW_CONSUMER = 4000  #: the client does not read and its outbound queue is full
    STALE = 4001  #: the hub no longer counts this connection as alive
    LEASE_LOST = 4002  #: the gateway may not hold agents any more
    IDENTIFY_TIMEOUT = 4003  #: no identify within the time allowed
    REPLACED = 4500  #: a newer connection of the same agent took over
    TOKEN_REVOKED = 4501  #: the agent's tokens were revoked
    AGENT_REMOVED = 4502  #: the agent was removed


def should_reconnect(code: int) -> bool:
    """What the range of a close code says."""
    return not any(code in codes for codes in _TERMINAL)


def fit_reason(reason: str) -> str:
    """The reason, cut so that it fits into a close frame."""
    return reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
