"""A TCP proxy that loses what passes through it, for partitions between two processes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

_READ_BYTES: Final = 64 * 1024


class LossyProxy:
    """Passes connections on to ``host:port`` until it is told not to.

    ``cut`` ends the connections there are. ``hold`` lets nothing through in either direction; what was sent meanwhile
    arrives after ``release``. ``lose`` makes black holes of them: they stay open, but what has lost something never
    passes anything again. ``refuse`` takes no new ones. ``delay_s`` is added to each chunk in each direction.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._losing = False
        self._refusing = False
        self.delay_s = 0.0
        #: Connections accepted since the beginning, refused ones included.
        self.accepted = 0

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        self.release()
        self.cut()
        await asyncio.gather(*self._serving)

    def cut(self) -> None:
        """Ends every connection at once, with a reset."""
        for writer in list(self._open):
            writer.transport.abort()

    def hold(self) -> None:
        self._passing.clear()

    def release(self) -> None:
        self._losing = self._refusing = False
        self._passing.set()

    def lose(self) -> None:
        """What is sent from now on is dropped, until ``release`` for new connections."""
        self._losing = True

    def refuse(self) -> None:
        """New connections are closed before a byte has passed."""
        self._refusing = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._refusing:
            writer.transport.abort()
            return
        try:
            target_reader, target_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, target_writer}
        self._open |= ends
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await asyncio.gather(self._pass(reader, target_writer), self._pass(target_reader, writer))
        finally:
            self._open -= ends
            self._serving.discard(task)
            for end in ends:
                end.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lost = False
        with contextlib.suppress(OSError):
            while data := await reader.read(_READ_BYTES):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await self._passing.wait()
                lost = lost or self._losing
                if not lost:
                    writer.write(data)
                    await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def lossy_proxy(host: str, port: int) -> AsyncIterator[LossyProxy]:
    """A started proxy in front of ``host:port``."""
    proxy = LossyProxy(host, port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
