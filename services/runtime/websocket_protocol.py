"""uvicorn's WebSocket connection, with a bound on the number of pieces that a message comes in."""

from __future__ import annotations

from typing import Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

#: A megabyte in pieces of 256 bytes.
MAX_FRAGMENTS: Final = 4096


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One socket.

    The size of a message is bounded by ``ws_max_size``, but a piece that is empty adds nothing to it and is kept until
    the message is complete.
    """

    def handle_cont(self, event: Frame) -> None:
        if self.close_sent:
            self.frames = []
        elif len(self.frames) < MAX_FRAGMENTS:
            super().handle_cont(event)
        else:
            self.frames = []
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, f"a message may have {MAX_FRAGMENTS} fragments")
            self.handle_parser_exception()
