"""uvicorn as a component: the supervisor starts it and drains it, and it never handles a signal itself."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, Literal

import structlog
import uvicorn

from services.runtime.component import BaseComponent, StartupError
from services.runtime.http_protocol import HttpProtocol
from services.runtime.websocket_protocol import WebSocketProtocol

log = structlog.get_logger(__name__)

_BACKLOG: Final = 2048
_ABANDON_S: Final = 1.0
_KEEP_ALIVE_S: Final = 75  # longer than the idle time of common proxies, so that it is they who close


def _play_down_bad_utf8(record: logging.LogRecord) -> bool:
    """uvicorn shows a traceback for a text frame that is not UTF-8, which has closed the socket with 1007."""
    if isinstance(record.exc_info, tuple) and isinstance(record.exc_info[1], UnicodeDecodeError):
        record.levelno, record.levelname, record.exc_info = logging.INFO, "INFO", None
    return True


logging.getLogger("uvicorn.error").addFilter(_play_down_bad_utf8)


class HttpServer(BaseComponent):
    """Serves one ASGI app over HTTP and WebSocket.

    Draining: ``on_drain`` runs first, while connections still work (a gateway says goodbye to its sockets); then the
    port closes, running requests finish, and WebSockets still open get close code 1012.
    """

    def __init__(
        self,
        app: Any,
        *,
        host: str,
        port: int,
        name: str = "http",
        drain_timeout: float = 10.0,
        ws_max_size: int = 1024 * 1024,
        ws_ping_interval: float | None = None,
        lifespan: Literal["auto", "on", "off"] = "auto",
        on_drain: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """``port`` 0 takes a free one; sizes in bytes, times in seconds; ``ws_ping_interval`` None sends no pings."""
        super().__init__(name, max_silence=15.0)
        self._app = app
        self._host = host
        self._port = port
        self._drain_timeout = drain_timeout
        self._ws_max_size = ws_max_size
        self._ws_ping_interval = ws_ping_interval
        self._lifespan = lifespan
        self._on_drain = on_drain
        self._socket: socket.socket | None = None

    @property
    def port(self) -> int:
        """The port that is really listened on; 0 before ``bind`` if a free one was asked for."""
        return self._port

    def bind(self) -> None:
        """Take the address now, before ``run`` does. Raises StartupError when it is not to be had."""
        if self._socket is not None:
            return
        try:
            family, _, _, _, address = socket.getaddrinfo(
                self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listener = socket.socket(family, socket.SOCK_STREAM)
            try:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(address)
                listener.listen(_BACKLOG)  # only now is the address really taken: two sockets may be bound to it
            except OSError:
                listener.close()
                raise
        except OSError as error:
            raise StartupError(_bind_failed(self._host, self._port, error)) from error
        listener.setblocking(False)
        self._socket = listener
        self._port = listener.getsockname()[1]

    async def run(self, stop: asyncio.Event) -> None:
        self.bind()
        listener, self._socket = self._socket, None  # uvicorn closes it; a next run binds the same port again
        assert listener is not None  # noqa: S101 - bound above
        server = _Server(self._config(), on_tick=self.touch)
        serving = asyncio.create_task(_serve(server, listener), name=f"{self.name}.serve")
        stopping = asyncio.create_task(stop.wait(), name=f"{self.name}.stop")
        log.info("http_listening", host=self._host, port=self._port)
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                if self._on_drain is not None:
                    await self._on_drain()
                server.should_exit = True
            await serving
        finally:
            stopping.cancel()
            if not serving.done():
                serving.cancel()
                await asyncio.wait({serving})
                await _abandon(server)
            listener.close()

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            self._app,
            http=HttpProtocol,
            ws=WebSocketProtocol,
            ws_max_size=self._ws_max_size,
            ws_per_message_deflate=False,
            ws_ping_interval=self._ws_ping_interval,
            lifespan=self._lifespan,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, math.floor(self._drain_timeout * 0.8)),
        )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, *, on_tick: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_tick = on_tick

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        self._on_tick()
        return await super().on_tick(counter)


async def _serve(server: _Server, listener: socket.socket) -> None:
    try:
        await server.serve(sockets=[listener])
    except SystemExit as error:  # uvicorn's way to say that the app's start-up failed; it has logged why
        raise RuntimeError("the application's start-up failed") from error


async def _abandon(server: _Server) -> None:
    """Close what a server that was cancelled midway leaves open, its port first."""
    for listening in getattr(server, "servers", ()):  # there only once it has started
        listening.close()
    for connection in list(server.server_state.connections):
        connection.shutdown()
    if server.started:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ABANDON_S):
                await server.lifespan.shutdown()


def _bind_failed(host: str, port: int, error: OSError) -> str:
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return f"{where} is already in use: stop what listens there, or choose another port with PORT=."
    if error.errno == errno.EACCES:
        return f"{where} may not be listened on by this user: choose a port above 1023 with PORT=."
    return f"{where} cannot be listened on: {error.strerror or error}."
