"""Writing a finished frame past the server's own path, which encodes it anew for every socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

Writer = Callable[[bytes], bool]


def frame_writer(send: Any) -> Writer | None:
    """A function that writes whole WebSocket frames to the socket behind an ASGI ``send``, at once or not at all.

    None where that is not uvicorn's own ``send`` (behind a wrapper or another server). The function returns False, and
    has written nothing, when the client is behind with reading or the socket is closing. Frames must not be compressed,
    and nothing else may be half written: the caller's own queue must be empty.
    """
    protocol: Any = getattr(send, "__self__", None)
    transport = getattr(protocol, "transport", None)
    writable = getattr(protocol, "writable", None)
    if transport is None or not isinstance(writable, asyncio.Event) or not hasattr(protocol, "close_sent"):
        return None

    def write(frame: bytes) -> bool:
        if not writable.is_set() or protocol.close_sent or transport.is_closing():
            return False
        try:
            transport.write(frame)
        except (OSError, RuntimeError):  # broken since it was last looked at; its reader is told
            return False
        return True

    return write
