"""The socket to the hub: connect, identify, heartbeat, reconnect. What frames mean is not decided here."""

import asyncio
import contextlib
import random
import ssl
from typing import Any
from urllib.parse import urlsplit

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from agentcom_sidecar import protocol
from agentcom_sidecar.config import SidecarConfig, is_loopback
from agentcom_sidecar.effects import ConnectionClosed as Closed
from agentcom_sidecar.effects import Event, FrameReceived

SEND_TIMEOUT = 10.0
CLOSE_TIMEOUT = 2.0
ABNORMAL = 1006


class HubConnection:
    """Keeps one connection to the hub alive and puts what arrives into the inbox."""

    def __init__(self, config: SidecarConfig, inbox: asyncio.Queue[Event]) -> None:
        """Raises OSError when the CA file cannot be used."""
        self._config = config
        self._inbox = inbox
        self._socket: ClientConnection | None = None
        self._closing = False
        self._failures = 0
        self._pong = asyncio.Event()
        self._identified = asyncio.Event()
        self._log = structlog.get_logger()
        parts = urlsplit(config.hub_url)
        self._tls = ssl.create_default_context(cafile=config.ca_file) if parts.scheme == "wss" else None
        self._direct = is_loopback(parts.hostname or "")

    async def run(self) -> None:
        """Connect again and again; returns only after `close`, or a close that asks not to come back."""
        while True:
            try:
                closed = await self._one_connection()
            except (OSError, WebSocketException, TimeoutError) as error:
                self._log.warning("ws_connect_error", error=f"{type(error).__name__}: {error}"[:500])
                closed = Closed(ABNORMAL, "")
            except Exception:  # noqa: BLE001 - supervises the loop
                self._log.exception("connection_loop_error")
                closed = Closed(ABNORMAL, "")
            self._socket = None
            await self._inbox.put(closed)
            if self._closing or protocol.is_terminal_close(closed.code):
                return
            await asyncio.sleep(self._back_off(closed))

    async def send(self, frame: dict[str, Any]) -> bool:
        """Send a frame; False when there is no connection, or it broke. A hub that does not read is dropped."""
        socket = self._socket
        if socket is None:
            return False
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await socket.send(protocol.encode(frame), text=True)
        except TimeoutError:
            self.drop("the hub does not read")
            return False
        except ConnectionClosed:
            return False
        return True

    def drop(self, reason: str) -> None:
        """Cut the connection without ceremony; a new one follows."""
        if self._socket is not None:
            self._log.warning("ws_dropped", reason=reason)
            self._socket.transport.abort()

    async def close(self) -> None:
        """Say goodbye and stay away."""
        self._closing = True
        if self._socket is not None:
            with contextlib.suppress(WebSocketException, OSError):
                await self._socket.close(1000, "shutdown")

    async def _one_connection(self) -> Closed:
        config = self._config
        self._log.info("ws_connecting", url=config.hub_url)
        socket = await connect(
            config.hub_url,
            ssl=self._tls,
            proxy=None if self._direct else True,
            compression=None,
            max_size=protocol.MAX_FRAME_BYTES,
            open_timeout=config.handshake_timeout_ms / 1000,
            close_timeout=CLOSE_TIMEOUT,
            ping_interval=None,
        )
        self._identified.clear()
        self._socket = socket
        helpers = [asyncio.create_task(self._heartbeat()), asyncio.create_task(self._expect_identified())]
        try:
            await self.send(
                protocol.identify(
                    agent_id=config.agent_id,
                    token=config.token.get_secret_value(),
                    capabilities=config.capabilities,
                )
            )
            self._log.info("identify_sent")
            return await self._receive(socket)
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            socket.transport.abort()

    async def _receive(self, socket: ClientConnection) -> Closed:
        while True:
            try:
                data = await socket.recv()
            except ConnectionClosed as error:
                frame = error.rcvd
                closed = Closed(frame.code, frame.reason) if frame is not None else Closed(ABNORMAL, "")
                tell = self._log.info if error.rcvd_then_sent is False else self._log.warning  # False: we closed it.
                tell("ws_close", code=closed.code, reason=closed.reason)
                return closed
            frame_data = protocol.decode(data)
            if frame_data is None:
                self._log.warning("ws_message_parse_error", bytes=len(data))
                continue
            if frame_data.get("type") == "pong":
                self._pong.set()
                continue
            if frame_data.get("type") == "identified":
                self._failures = 0
                self._identified.set()
            await self._inbox.put(FrameReceived(frame_data))

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self._config.ping_interval_ms / 1000)
            self._pong.clear()
            await self.send({"type": "ping"})
            try:
                async with asyncio.timeout(self._config.pong_timeout_ms / 1000):
                    await self._pong.wait()
            except TimeoutError:
                self.drop("heartbeat_timeout")
                return

    async def _expect_identified(self) -> None:
        try:
            async with asyncio.timeout(self._config.handshake_timeout_ms / 1000):
                await self._identified.wait()
        except TimeoutError:
            self.drop("identify_timeout")

    def _back_off(self, closed: Closed) -> float:
        """Full jitter: anything up to a bound that doubles with each attempt that did not get identified."""
        bound = self._config.reconnect_min_ms * 2 ** min(self._failures, 16)
        delay = random.uniform(0, min(bound, self._config.reconnect_max_ms)) / 1000
        delay += protocol.cooldown_seconds(closed.code, closed.reason)
        self._failures += 1
        self._log.info("reconnect_scheduled", delay_seconds=round(delay, 3), failures=self._failures)
        return delay
