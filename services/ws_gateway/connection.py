"""One socket: reads frames for its session, carries out the session's effects, and writes from a bounded queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import structlog

from agentcom.errors import AgentComError, StoreUnavailable
from agentcom.settings import SECOND, Settings
from agentcom.store.gateways import OutboxEntry
from agentcom.store.guard import Guard
from agentcom.store.store import Store
from agentcom.wire import outbound
from agentcom.wire.close_codes import CloseCode
from services.ws_gateway.calls import perform
from services.ws_gateway.departures import Departures
from services.ws_gateway.effects import Call, Close, Effect, Penalize, Send
from services.ws_gateway.fanout import Fanout
from services.ws_gateway.lease import Lease
from services.ws_gateway.letters import Letter, direct_letter
from services.ws_gateway.limits import FrameLimits
from services.ws_gateway.operations import Heartbeat, Identify, Operation
from services.ws_gateway.outbound_queue import Message, OutboundQueue, SendMessage
from services.ws_gateway.receipts import Receipts
from services.ws_gateway.registry import Registry, new_connection_id
from services.ws_gateway.replies import Result
from services.ws_gateway.session import Phase, Session, SessionLimits

log = structlog.get_logger(__name__)

Receive: TypeAlias = Callable[[], Awaitable[Message]]

#: Frames of one socket that may wait for the store; beyond that it is not read from.
FRAMES_IN_FLIGHT = 64
#: A closing that takes longer, because the client does not read or does not answer, is cut short.
CLOSE_PATIENCE_S = 5.0
#: Codes with which the WebSocket server closes on its own: bad framing, text or size of a frame, and its shutdown.
SERVER_CODES = frozenset({1002, 1007, 1009, 1012})


class Asked(NamedTuple):
    """A call that the store has not answered yet."""

    operation: Operation
    task: asyncio.Task[Result]
    guard: Guard | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all sockets of a process share."""

    store: Store
    settings: Settings
    limits: SessionLimits
    lease: Lease
    registry: Registry
    departures: Departures
    fanout: Fanout
    receipts: Receipts
    frame_limits: FrameLimits


class SocketConnection:
    """The adaptor between an ASGI WebSocket and a :class:`Session`.

    Frames are passed on to the store without waiting for the answers to those before; answers are written in the order
    of the frames. Whatever is to be written goes through one queue, bounded in frames and bytes: a client that lets it
    overflow is disconnected, and what it misses of its tasks is pushed again when it comes back.
    """

    __slots__ = (
        "_around",
        "_begun",
        "_bytes_in",
        "_closing",
        "_cut_short",
        "_draining",
        "_frames_in",
        "_gateway",
        "_identify_timer",
        "_loop",
        "_pending",
        "_queue",
        "_receive",
        "_remote",
        "_room",
        "_send",
        "_task",
        "conn",
        "session",
    )

    def __init__(self, around: Surroundings, *, receive: Receive, send: SendMessage, remote: str) -> None:
        self.conn = new_connection_id()
        self.session = Session(around.limits)
        self._around = around
        self._receive = receive
        self._send = send
        self._remote = remote
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._gateway = ""
        self._begun = self._loop.time()
        self._frames_in = 0
        self._bytes_in = 0
        self._queue = OutboundQueue(
            send,
            max_frames=around.settings.outbound_queue_frames,
            max_bytes=around.settings.outbound_queue_bytes,
        )
        #: What answers the frames so far, in their order: calls on their way, and frames that wait behind them.
        self._pending: list[Asked | bytes | Letter] = []
        self._room: asyncio.Future[None] | None = None
        self._identify_timer: asyncio.TimerHandle | None = None
        self._cut_short: asyncio.TimerHandle | None = None
        self._closing: Close | None = None
        self._draining = False

    # -- the socket's life -----------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """From the accepted handshake to the end of the socket."""
        around = self._around
        self._task = asyncio.current_task()
        around.registry.add(self)
        timeout_s = around.settings.identify_timeout_ms / SECOND
        self._identify_timer = self._loop.call_later(timeout_s, self._identify_overdue)
        writer = self._loop.create_task(self._queue.write(self._written))
        ended_by: tuple[int, str] = (1006, "")
        try:
            ended_by = await self._read()
        except asyncio.CancelledError:
            # Cut short; anybody else who cancels this task is shutting the process down.
            if self._closing is None:
                raise
        finally:
            writer.cancel()
            self._end(*ended_by)

    async def _read(self) -> tuple[int, str]:
        """Read until the socket ends. Returns the close code and reason."""
        receive = self._receive
        while True:
            # No local variable holds a frame while this waits for the next one: frames can be large, and sockets many.
            ended = self._take(await receive())
            if ended is not None:
                return ended
            while self._must_wait():
                self._room = self._loop.create_future()
                await self._room

    def _take(self, message: Message) -> tuple[int, str] | None:
        """One message of the server: a frame, or the end of the socket, whose close code and reason are returned."""
        if message["type"] == "websocket.disconnect":
            return message.get("code") or 1005, message.get("reason") or ""
        if self._draining:
            return None  # what is not acknowledged is sent again to the next gateway
        self._frames_in += 1
        text = message.get("text")
        if text is None:
            self._bytes_in += len(message.get("bytes") or b"")
            effects = self.session.receive_binary(now=self._loop.time())
        else:
            self._bytes_in += len(text)
            effects = self.session.receive(text, now=self._loop.time())
        self._carry_out(effects)
        return None

    def _must_wait(self) -> bool:
        phase = self.session.phase
        return phase is Phase.IDENTIFYING or (phase is not Phase.CLOSED and len(self._pending) >= FRAMES_IN_FLIGHT)

    def _end(self, code: int, reason: str) -> None:
        """The socket is gone."""
        session, closing = self.session, self._closing
        if closing is None:
            session.closed_by_client()
            self._leave("client_closed" if code in {1000, 1001} else "connection_lost", written=self.written_through())
        for timer in (self._identify_timer, self._cut_short):
            if timer is not None:
                timer.cancel()
        self._around.registry.remove(self)
        self._around.fanout.forget(self)
        log.info(
            "session_ended",
            agent_id=session.agent_id,
            conn=self.conn,
            gateway=self._gateway or None,
            remote=self._remote,
            duration_ms=round((self._loop.time() - self._begun) * SECOND),
            frames_in=self._frames_in,
            frames_out=self.frames_out,
            bytes_in=self._bytes_in,
            bytes_out=self._queue.bytes_out,
            tasks_completed=session.tasks_completed,
            tasks_failed=session.tasks_failed,
            closed_by="client" if closing is None and code not in SERVER_CODES else "hub",
            close_code=code if closing is None else int(closing.code),
            close_reason=reason if closing is None else closing.reason,
        )

    def _leave(self, reason: str, *, written: int) -> None:
        """Take the agent off this connection in the store; calls already made and receipts come first."""
        self._around.registry.forget_agent(self)
        self._around.receipts.send_now()
        for agent_id in self.session.claimed_agents:
            self._around.departures.leave(
                agent_id, conn=self.conn, gateway=self._gateway, reason=reason, written=written
            )

    def _identify_overdue(self) -> None:
        self._write_out(self.session.identify_overdue())

    # -- what the hub has for this socket --------------------------------------------------------------------------

    def deliver(self, entry: OutboxEntry) -> None:
        """One entry of the gateway's outbox. Never waits."""
        if entry.kind == "close":
            self.close(entry.code or CloseCode.STALE, entry.frame.decode(errors="replace"))
            return
        self._push(direct_letter(entry) if entry.kind == "mail" else entry.frame)

    def post(self, letter: Letter) -> None:
        """A broadcast or post. Never waits; where nothing is to be written before it, it is written here and now."""
        if not self.session.wants(letter):
            return
        if not (self.session.is_free and self._queue.write_now(letter.wire)):
            self._push(letter)

    def _push(self, frame: bytes | Letter) -> None:
        self._write_out(self.session.push(frame))
        if self.session.held > self._around.settings.outbound_queue_frames:
            self._overflow()

    def written_through(self) -> int:
        """The number up to which all mail handed to this connection was written to its socket."""
        first = self._queue.first_unwritten or self.session.first_letter_held
        return first - 1 if first else self._around.fanout.latest

    def offer(self, frame: bytes) -> None:
        """A frame that may be left out, and is if the client is behind with reading."""
        settings = self._around.settings
        behind = len(self._queue) * 2 > settings.outbound_queue_frames
        if self.session.phase is Phase.IDENTIFIED and not behind:
            self._enqueue(frame)

    def close(self, code: int, reason: str) -> None:
        """End the connection; what is queued is written first."""
        self._write_out(self.session.close(code, reason))

    def drain(self) -> None:
        """End the connection for a shutdown, once the frames on their way are answered."""
        self._draining = True
        if not self._pending:
            self.close(CloseCode.SHUTTING_DOWN, "this gateway is shutting down")

    def abort(self) -> None:
        """End the connection now; the client does not take part in the closing."""
        transport = getattr(getattr(self._send, "__self__", None), "transport", None)
        if transport is not None and hasattr(transport, "abort"):
            transport.abort()
        elif self._task is not None:  # behind a wrapper or another server: ending the application ends the socket
            self._task.cancel()

    @property
    def frames_out(self) -> int:
        """How many frames were written."""
        return self._queue.frames_out

    @property
    def waiting_frames(self) -> int:
        """How many frames wait to be written."""
        return len(self._queue)

    # -- effects ---------------------------------------------------------------------------------------------------

    def _carry_out(self, effects: list[Effect]) -> None:
        """Effects of a frame that was read: their frames come after the answers to the frames before."""
        for effect in effects:
            if isinstance(effect, Call):
                self._call(effect.operation)
            elif isinstance(effect, Send) and self._pending:
                self._pending.append(effect.frame)
            else:
                self._write_out([effect])

    def _call(self, operation: Operation) -> None:
        around = self._around
        agent_id = self.session.agent_id or ""
        if isinstance(operation, Identify):
            agent_id = operation.agent_id
            self._gateway = around.lease.gateway
        call = perform(around.store, operation, agent_id=agent_id, conn=self.conn, gateway=self._gateway)
        kind = operation.request.value
        guard = around.frame_limits.guard(kind, agent_id)
        task = self._loop.create_task(call if guard is None else around.frame_limits.behind(guard, kind, call))
        self._pending.append(Asked(operation, task, guard))
        task.add_done_callback(self._answered)

    def _answered(self, task: asyncio.Task[Result]) -> None:
        """A call is done: write every answer whose turn it is."""
        pending, session = self._pending, self.session
        if not task.cancelled() and isinstance(task.exception(), StoreUnavailable):
            self._let_pong_pass(task)
        while pending:
            first = pending[0]
            if isinstance(first, bytes | Letter):
                pending.pop(0)
                self._enqueue(first)
                continue
            if not first.task.done():
                break
            pending.pop(0)
            if first.guard is not None and first.guard.verdict == "warn":
                self._enqueue(
                    outbound.rate_limit_warning(first.guard.tier, left=first.guard.left, limit=first.guard.limit)
                )
            self._write_out(session.resolve(first.operation, _outcome(first)))
            if isinstance(first.operation, Identify) and session.phase is Phase.IDENTIFIED:
                self._on_identified()
        if self._draining and not pending:
            self.drain()
        self._read_on()

    def _let_pong_pass(self, task: asyncio.Task[Result]) -> None:
        """A pong says that this gateway is there, so without the store it does not wait for what does."""
        for index, asked in enumerate(self._pending):
            if isinstance(asked, Asked) and asked.task is task:
                if isinstance(asked.operation, Heartbeat):
                    self._pending.insert(0, self._pending.pop(index))
                return

    def _on_identified(self) -> None:
        self._around.registry.identified(self)
        self._queue.allow_direct_writes()
        if self._identify_timer is not None:
            self._identify_timer.cancel()
            self._identify_timer = None

    def _write_out(self, effects: list[Effect]) -> None:
        if len(effects) > 1:
            sends = (effect.frame for effect in effects if isinstance(effect, Send))
            frames = [frame for frame in sends if isinstance(frame, bytes)]
            if len(frames) == len(effects):
                if not self._queue.put_all(frames):
                    self._overflow()
                return
        for effect in effects:
            match effect:
                case Send():
                    self._enqueue(effect.frame)
                case Close():
                    self._begin_close(effect)
                case Penalize():
                    self._around.departures.penalize(effect.agent_id)
                case Call():
                    self._call(effect.operation)

    # -- writing ---------------------------------------------------------------------------------------------------

    def _enqueue(self, frame: bytes | Letter) -> None:
        if not self._queue.put(frame):
            self._overflow()

    def _overflow(self) -> None:
        self.close(CloseCode.SLOW_CONSUMER, "too many frames wait for this client to read them")

    def _begin_close(self, closing: Close) -> None:
        self._closing = closing
        written = self.written_through()
        # Letters that were not written by now stay in the mailbox; written all the same, they would be there and here.
        self._queue.close(closing.code, closing.reason, at_once=closing.code == CloseCode.SLOW_CONSUMER)
        self._leave(f"close_{closing.code}", written=written)
        self._cut_short = self._loop.call_later(CLOSE_PATIENCE_S, self.abort)
        self._read_on()

    def _written(self, letter: Letter) -> None:
        if letter.message_id:
            self._around.receipts.add(self.session.agent_id or "", letter)

    def _read_on(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)


def _outcome(asked: Asked) -> Result | AgentComError:
    task = asked.task
    if task.cancelled():
        return StoreUnavailable()
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, StoreUnavailable) and isinstance(asked.operation, Heartbeat):
        return round(time.time() * SECOND)
    if isinstance(error, AgentComError):
        return error
    log.error("operation_failed", request=asked.operation.request.value, error=repr(error), exc_info=error)
    return AgentComError("The hub could not do this; the reason is in its log.")
