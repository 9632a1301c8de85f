"""What waits to be written to one socket, and the writing of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from agentcom.wire.close_codes import fit_reason
from services.ws_gateway.direct import Writer, frame_writer
from services.ws_gateway.letters import Letter, text_frame

Message: TypeAlias = MutableMapping[str, Any]
SendMessage: TypeAlias = Callable[[Message], Awaitable[None]]


class OutboundQueue:
    """Frames in their order, bounded in number and bytes; what ends the socket is written after them."""

    __slots__ = (
        "_bytes",
        "_closing",
        "_frames",
        "_idle",
        "_max_bytes",
        "_max_frames",
        "_send",
        "_write_now",
        "_writing",
        "bytes_out",
        "frames_out",
    )

    def __init__(self, send: SendMessage, *, max_frames: int, max_bytes: int) -> None:
        self._send = send
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        # A list: it is short, mostly empty, and an empty deque is ten times as large.
        self._frames: list[bytes | Letter] = []
        self._bytes = 0
        #: The letter that is being written, and what the writer waits for while there is nothing to write.
        self._writing: Letter | None = None
        self._idle: asyncio.Future[None] | None = None
        #: How a finished frame is written past the queue, if that can be done.
        self._write_now: Writer | None = None
        self._closing: tuple[int, str] | None = None
        self.frames_out = 0
        self.bytes_out = 0

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def first_unwritten(self) -> int:
        """The number of the first letter that is not written yet, 0 if there is none."""
        if self._writing is not None:
            return self._writing.seq
        return next((frame.seq for frame in self._frames if isinstance(frame, Letter)), 0)

    def put(self, frame: bytes | Letter) -> bool:
        """Adds a frame; False if there is no room. One always fits, however large, so that any can be written.

        A plain frame is written at once where nothing is to be written before it.
        """
        if self._closing is not None or (isinstance(frame, bytes) and self.write_now(text_frame(frame))):
            return True
        size = _size(frame)
        if len(self._frames) >= self._max_frames or (self._frames and self._bytes + size > self._max_bytes):
            return False
        self._frames.append(frame)
        self._bytes += size
        self._wake()
        return True

    def put_all(self, frames: list[bytes]) -> bool:
        """The same for several plain frames, which are written together if they are written at once."""
        if self._closing is not None or self.write_now(b"".join(map(text_frame, frames)), frames=len(frames)):
            return True
        return all(self.put(frame) for frame in frames)

    def allow_direct_writes(self) -> None:
        """From now on ``write_now`` may succeed."""
        self._write_now = frame_writer(self._send)

    def write_now(self, wire: bytes, *, frames: int = 1) -> bool:
        """Writes finished frames at once, or does nothing and returns False."""
        resting = self._idle is not None and not self._idle.done() and not self._frames and self._closing is None
        if self._write_now is None or not resting or not self._write_now(wire):
            return False
        self.frames_out += frames
        self.bytes_out += len(wire)
        return True

    def close(self, code: int, reason: str, *, at_once: bool) -> None:
        """Nothing more is put. What waits is written first, except letters, which stay in mailboxes.

        With ``at_once`` nothing is written first: the client does not read.
        """
        self._closing = (code, reason)
        self._frames[:] = [] if at_once else [frame for frame in self._frames if not isinstance(frame, Letter)]
        self._wake()

    async def write(self, written: Callable[[Letter], None]) -> None:
        """Writes until the socket is closed or gone; tells of each letter that it was written."""
        send, frames = self._send, self._frames
        try:
            while True:
                while frames:
                    await send({"type": "websocket.send", "text": self._next_text()})
                    self.frames_out += 1
                    letter, self._writing = self._writing, None
                    if letter is not None:
                        written(letter)
                if self._closing is not None:
                    code, reason = self._closing
                    await send({"type": "websocket.close", "code": code, "reason": fit_reason(reason)})
                    return
                self._idle = asyncio.get_running_loop().create_future()
                await self._idle
        except (OSError, RuntimeError):
            # The socket is gone (an OSError), or is being closed by the server itself, which refuses further frames
            # (a RuntimeError). Either way the reader is told, and ends the session.
            return

    def _next_text(self) -> str:
        frame = self._frames.pop(0)
        size = _size(frame)
        self._bytes -= size
        self.bytes_out += size
        if isinstance(frame, Letter):
            self._writing = frame
            return frame.text
        return frame.decode(errors="replace")

    def _wake(self) -> None:
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)


def _size(frame: bytes | Letter) -> int:
    return len(frame.text) if isinstance(frame, Letter) else len(frame)
