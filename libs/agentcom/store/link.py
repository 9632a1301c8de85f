"""One pipelined connection to Redis.

Calls made in one turn of the event loop travel in one write, replies are matched in order, and nothing waits for the
reply of the call before it: that order is what the gateway relies on when it passes on an agent's frames one after
another. After a lost connection, calls that still wait for a reply are sent again, in order, so **every call made here
must be safe to run twice**; the scripts are (they carry ids and generations). A call that was given up is not sent
again. Blocking commands need a connection of their own.

A short loss is invisible but for the time it takes. After one that lasts, waiting calls fail, and new ones fail at
once, until a new connection stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import hiredis
import structlog
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, RedisError

from agentcom.errors import StoreFull, StoreUnavailable

log = structlog.get_logger(__name__)

RedisValue: TypeAlias = "bytes | int | list[RedisValue] | None"

READ_BYTES = 256 * 1024
MAX_WAITING = 100_000
RECONNECT_FIRST_S = 0.05
RECONNECT_LAST_S = 0.5
#: How long calls wait for a connection to come back.
PATIENCE_S = 2.0
#: What a lost connection raises out of redis-py. The RuntimeError is uvloop's, for a write to a connection that broke
#: since it was last looked at; asyncio's own loop drops such a write and tells the reader.
LOST_CONNECTION = (TimeoutError, RedisError, OSError, RuntimeError)
#: Errors of a server that is starting, failing over or was demoted: the same call succeeds elsewhere or later.
MOVING_ON = ("LOADING", "READONLY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "BUSY ")


class CommandError(Exception):
    """Redis refused a command; the message is Redis's own."""


class _NotNow(Exception):
    """This server takes no commands at the moment; the message is Redis's own."""


def _pack(command: tuple[bytes | str | float, ...]) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
    return packed


def _fail(future: asyncio.Future[RedisValue], error: StoreUnavailable) -> None:
    """Of several calls that failed for one reason, callers may look at the first alone: the others are no mistake that
    asyncio needs to report.
    """
    future.set_exception(error)
    future.exception()


@dataclass(slots=True)
class _Call:
    packed: bytes
    future: asyncio.Future[RedisValue]
    deadline: float


class Link:
    """Sends commands over one connection and keeps it open until :meth:`close`.

    Parameters
    ----------
    pool
        Where connections come from (URL, TLS, credentials, Sentinel). The link makes its own and never pools it.
    greeting
        Commands sent first on every new connection, such as loading scripts. One that is refused ends the connection.
    timeout_s
        A call without a reply for this long fails with :class:`StoreUnavailable`.
    """

    def __init__(
        self, pool: ConnectionPool, *, greeting: Callable[[], Sequence[tuple[bytes, ...]]], timeout_s: float = 10.0
    ) -> None:
        self._pool = pool
        self._greeting = greeting
        self._timeout = timeout_s
        #: Until when calls wait for a connection.
        self._patient_until = 0.0
        self._impatience: asyncio.TimerHandle | None = None
        self._begun = 0.0
        self._proved_good = False
        self._failure = ""
        self._unsent: deque[_Call] = deque()
        self._inflight: deque[_Call] = deque()
        self._writer: asyncio.StreamWriter | None = None
        self._delay = RECONNECT_FIRST_S
        self._flush_scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def connected(self) -> bool:
        return self._writer is not None

    def start(self) -> None:
        """Begins to connect, in the background; calls may be made at once. Does nothing the second time."""
        if self._tasks:
            return
        self._loop = asyncio.get_running_loop()
        self._be_patient()
        self._tasks = [asyncio.create_task(self._stay_connected()), asyncio.create_task(self._expire_calls())]

    async def close(self) -> None:
        """Closes the connection; calls without a reply fail, and so do those made later."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._impatience is not None:
            self._impatience.cancel()
        self._patient_until = 0.0
        self._fail_all(StoreUnavailable("the connection to the store was closed"))

    def call(self, *command: bytes | str | float) -> asyncio.Future[RedisValue]:
        """Sends a command; the future has its reply, :class:`CommandError`, or :class:`StoreUnavailable`."""
        loop = self._running_loop()
        future: asyncio.Future[RedisValue] = loop.create_future()
        if len(self._unsent) >= MAX_WAITING:
            _fail(future, StoreUnavailable("too many calls wait for the store"))
            return future
        if self._writer is None and loop.time() >= self._patient_until:
            _fail(future, StoreUnavailable())
            return future
        self._unsent.append(_Call(_pack(command), future, loop.time() + self._timeout))
        if self._writer is not None and not self._flush_scheduled:
            self._flush_scheduled = True
            loop.call_soon(self._flush)
        return future

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("the link is not started")
        return self._loop

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._writer is None or not self._unsent:
            return
        calls = [call for call in self._unsent if not call.future.done()]
        self._unsent.clear()
        self._inflight.extend(calls)
        with contextlib.suppress(RuntimeError):  # lost: its reader ends in a moment, and the calls are sent again
            self._writer.write(b"".join([call.packed for call in calls]))

    async def _stay_connected(self) -> None:
        while True:
            try:
                await self._converse(await self._connect())
            except (*LOST_CONNECTION, EOFError, hiredis.ProtocolError, _NotNow) as error:
                self._tell(error)
            except Exception:
                # Without this loop every later call would wait in vain.
                log.exception("store_connection_crashed")
            await asyncio.sleep(self._delay * random.uniform(0.5, 1.0))
            self._delay = min(self._delay * 2, RECONNECT_LAST_S)

    def _tell(self, error: Exception) -> None:
        """Logs why there is no connection, unless it is the reason that was given last."""
        failure = str(error) or type(error).__name__
        if failure != self._failure:
            level = log.error if isinstance(error, AuthenticationError) else log.warning
            level("store_connection_failed", error=failure)
        self._failure = failure

    async def _connect(self) -> AbstractConnection:
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        async with asyncio.timeout(self._timeout):
            await connection.connect()  # type: ignore[no-untyped-call]
        return connection

    async def _converse(self, connection: AbstractConnection) -> None:
        """Sends and answers calls until the connection is lost. What has no reply then waits for the next one."""
        try:
            await self._exchange(connection)
        finally:
            self._unsent.extendleft(reversed(self._inflight))
            self._inflight.clear()
            self._lose()
            with contextlib.suppress(*LOST_CONNECTION):
                await connection.disconnect(nowait=True)

    async def _exchange(self, connection: AbstractConnection) -> None:
        reader, writer = connection._reader, connection._writer
        if reader is None or writer is None:
            raise EOFError("connection closed")
        replies = hiredis.Reader()
        greeting = [_pack(command) for command in self._greeting()]
        writer.write(b"".join(greeting))
        ungreeted = len(greeting)
        if not ungreeted:
            self._begin(writer)
        async with asyncio.timeout(self._timeout if ungreeted else None) as until_greeted:
            while data := await reader.read(READ_BYTES):
                replies.feed(data)
                while (reply := replies.gets()) is not False:
                    if not ungreeted:
                        self._answer(reply)
                        continue
                    if isinstance(reply, hiredis.ReplyError):
                        raise _NotNow(str(reply))
                    ungreeted -= 1
                    if not ungreeted:
                        until_greeted.reschedule(None)
                        self._begin(writer)
        raise EOFError("closed by the server")

    def _begin(self, writer: asyncio.StreamWriter) -> None:
        """Lets calls through. Not before the greeting is answered: a server that refuses it because it still loads its
        data could be ready in the middle of what follows, and would run some calls before those it refused.
        """
        self._writer = writer
        self._begun, self._proved_good = self._running_loop().time(), False
        self._flush()

    def _lose(self) -> None:
        """The connection is gone, or was none yet.

        A server that refuses what is asked of it can be connected to again and again; only one that has answered, or
        stood for long, begins a new patience when it is lost.
        """
        stood = self._writer is not None
        self._writer = None
        now = self._running_loop().time()
        if stood and (self._proved_good or now - self._begun >= PATIENCE_S):
            self._be_patient()
        elif now >= self._patient_until:
            self._fail_all(StoreUnavailable())

    def _be_patient(self) -> None:
        loop = self._running_loop()
        self._patient_until = loop.time() + PATIENCE_S
        if self._impatience is not None:
            self._impatience.cancel()
        self._impatience = loop.call_at(self._patient_until, self._lose_patience)

    def _lose_patience(self) -> None:
        if self._writer is None:
            self._fail_all(StoreUnavailable())

    def _answer(self, reply: RedisValue | hiredis.ReplyError) -> None:
        error = str(reply) if isinstance(reply, hiredis.ReplyError) else None
        if error is not None and error.startswith(MOVING_ON):
            # Left in flight: it is sent again once a server that can take it is found.
            raise _NotNow(error)
        self._delay, self._proved_good, self._failure = RECONNECT_FIRST_S, True, ""
        call = self._inflight.popleft()
        if call.future.done():
            return
        if isinstance(reply, hiredis.ReplyError):
            text = str(reply)
            call.future.set_exception(StoreFull() if text.startswith("OOM") else CommandError(text))
        else:
            call.future.set_result(reply)

    async def _expire_calls(self) -> None:
        """Fails calls past their deadline. A connection on which one was sent in vain is given up."""
        while True:
            await asyncio.sleep(self._timeout / 10)
            now = self._running_loop().time()
            if self._inflight and self._inflight[0].deadline < now and self._writer is not None:
                self._writer.transport.abort()
            for waiting in (self._inflight, self._unsent):
                for call in waiting:
                    if call.deadline < now and not call.future.done():
                        _fail(call.future, StoreUnavailable())
            while self._unsent and self._unsent[0].future.done():
                self._unsent.popleft()

    def _fail_all(self, error: StoreUnavailable) -> None:
        for call in (*self._inflight, *self._unsent):
            if not call.future.done():
                _fail(call.future, error)
        self._inflight.clear()
        self._unsent.clear()
