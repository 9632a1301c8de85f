"""An agent over a real socket that behaves as a sidecar must, without processes and files, so there can be many.

It accepts what it is given, works on it, keeps its report until the hub acknowledges it, and reconnects. Everything
that travels is kept for the test to look at.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from tests.support.eventually import eventually

Frame = dict[str, Any]
ReportKey = tuple[str, int]

SIDECAR: Final = ("progress", "cancel", "recover")
#: Refusals after which the same report cannot succeed any more.
FINAL: Final = frozenset({"stale_generation", "not_owner", "invalid_state", "not_found", "validation_failed"})
_FATAL: Final = frozenset({"invalid_token", "token_agent_mismatch"})
_TICK_S: Final = 0.25


class WorkFailed(Exception):
    """Raised by an agent's work: the attempt failed, for this reason."""


Work = Callable[[Frame], Awaitable[Mapping[str, Any]]]
"""Does what a ``task_assign`` frame asks for and returns the fields of ``task_complete``."""


def working_for(seconds: float, *, spread: float = 0.0) -> Work:
    """Work that takes so long, give or take, and says who did it in its result."""

    async def work(frame: Frame) -> Mapping[str, Any]:
        await asyncio.sleep(seconds + random.uniform(-spread, spread))
        return {"result": {"description": frame["description"], "generation": frame["generation"]}}

    return work


at_once: Final = working_for(0.0)


async def forever(_frame: Frame) -> Mapping[str, Any]:
    """Work that never ends."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


@dataclass(frozen=True, slots=True)
class Seen:
    """One frame: on which connection of the agent (1 is the first), which way, and what."""

    connection: int
    way: Literal["in", "out"]
    frame: Frame


@dataclass(slots=True)
class Held:
    """The task in hand."""

    task_id: str
    generation: int
    working: asyncio.Task[None]


class SocketAgent:
    """One agent. ``features`` None is a client of the old protocol: it announces nothing and never asks to carry on."""

    def __init__(
        self,
        agent_id: str,
        token: str,
        urls: Sequence[str],
        *,
        work: Work = at_once,
        capabilities: Sequence[str] = (),
        features: Sequence[str] | None = SIDECAR,
        accepts: bool = True,
        progress_s: float = 0.5,
        ping_s: float = 1.0,
        pong_timeout_s: float = 5.0,
        ack_timeout_s: float = 3.0,
        reconnects: bool = True,
    ) -> None:
        """``urls`` are tried in turn, one for each connection. Times are seconds."""
        self.id = agent_id
        self.token = token
        self.work = work
        self.accepts = accepts
        self.reconnects = reconnects
        self._urls = itertools.cycle(urls)
        self._capabilities = list(capabilities)
        self._features = features
        self._progress_s = progress_s
        self._ping_s = ping_s
        self._pong_timeout_s = pong_timeout_s
        self._ack_timeout_s = ack_timeout_s
        #: Everything that was sent and received, in order.
        self.seen: list[Seen] = []
        #: How often each task's work was started.
        self.runs: Counter[str] = Counter()
        #: Reports that the hub acknowledged, with the ack's status; and refused, with the code.
        self.acknowledged: dict[ReportKey, str] = {}
        self.refused: dict[ReportKey, str] = {}
        #: Assignments that were received while a report on the same connection had no answer yet.
        self.overtaken: list[Frame] = []
        #: Close codes; 1006 is a connection that broke or could not be made.
        self.closes: list[int] = []
        self.connections = 0
        self.identified = False
        self.outbox: dict[ReportKey, Frame] = {}
        self.held: Held | None = None
        self._unanswered: set[ReportKey] = set()
        self._socket: ClientConnection | None = None
        self._runner: asyncio.Task[None] | None = None
        self._heard_at = 0.0
        self._failures = 0

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> SocketAgent:
        """Connects, and returns once it is identified."""
        self.launch()
        await eventually(self._identified_or_ended, timeout=20, message=f"{self.id} was not identified")
        return self

    def launch(self) -> None:
        """Begins to connect."""
        self._runner = asyncio.create_task(self._stay_connected(), name=f"agent {self.id}")

    async def stop(self) -> None:
        """Leaves properly; the task in hand is abandoned."""
        self.reconnects = False
        self._abandon()
        if self._socket is not None:
            await self._socket.close()
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)

    def cut(self) -> None:
        """Breaks the connection without a word, as a lost network does; the agent itself goes on."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def die(self) -> None:
        """What SIGKILL does to an agent without a memory: connection, task and unsent reports are gone for good."""
        if self._runner is not None:
            self._runner.cancel()
        self.cut()
        self._abandon()
        self.outbox.clear()
        if self._runner is not None:
            await asyncio.gather(self._runner, return_exceptions=True)

    @property
    def is_old(self) -> bool:
        """Whether it speaks the old protocol: it is trusted to have its task for as long as it pings."""
        return self._features is None

    @property
    def ended(self) -> bool:
        """Whether it will not connect again: the hub asked it not to, or it was told not to."""
        return self._runner is None or self._runner.done()

    def _identified_or_ended(self) -> bool:
        if self._runner is not None and self._runner.done() and not self._runner.cancelled():
            self._runner.result()
            raise RuntimeError(f"{self.id} ended before it was identified; closed with {self.closes}")
        return self.identified

    # -- what was seen ---------------------------------------------------------------------------------------------

    def received(self, kind: str, **fields: object) -> list[Frame]:
        """Received frames of a type with these field values, oldest first."""
        return [s.frame for s in self.seen if s.way == "in" and {"type": kind, **fields}.items() <= s.frame.items()]

    def sent(self, kind: str, **fields: object) -> list[Frame]:
        """Sent frames, likewise."""
        return [s.frame for s in self.seen if s.way == "out" and {"type": kind, **fields}.items() <= s.frame.items()]

    @property
    def completed(self) -> set[str]:
        """Tasks whose completion the hub acknowledged to this agent."""
        return {task_id for (task_id, _), status in self.acknowledged.items() if status == "complete"}

    async def wait_for(self, kind: str, *, timeout: float = 15.0, **fields: object) -> Frame:
        """The first frame of this type with these field values."""
        missing = f"{self.id} received no {kind} {fields}"
        await eventually(lambda: bool(self.received(kind, **fields)), timeout=timeout, message=missing)
        return self.received(kind, **fields)[0]

    # -- the connection --------------------------------------------------------------------------------------------

    async def send(self, frame: Frame) -> bool:
        """Sends a frame; False when there is no connection."""
        socket = self._socket
        if socket is None:
            return False
        self.seen.append(Seen(self.connections, "out", frame))
        try:
            await socket.send(orjson.dumps(frame).decode())
        except ConnectionClosed:
            return False
        return True

    async def _stay_connected(self) -> None:
        while True:
            code = await self._one_connection()
            self.closes.append(code)
            if not self.reconnects or 3500 <= code <= 3999 or 4500 <= code <= 4999:
                return
            bound = min(0.1 * 2 ** min(self._failures, 8), 1.0)
            self._failures += 1
            await asyncio.sleep(random.uniform(0.02, bound))

    async def _one_connection(self) -> int:
        """Serves one connection and returns the code it was closed with."""
        loop = asyncio.get_running_loop()
        try:
            async with connect(
                next(self._urls),
                compression=None,
                ping_interval=None,
                max_queue=None,
                proxy=None,
                open_timeout=5,
                close_timeout=1,
            ) as socket:
                self.connections += 1
                self._socket = socket
                self._heard_at = loop.time()
                self._unanswered.clear()
                ticking = asyncio.create_task(self._tick())
                try:
                    await self.send(self._identify())
                    async for message in socket:
                        self._heard_at = loop.time()
                        frame = orjson.loads(message)
                        self.seen.append(Seen(self.connections, "in", frame))
                        await self._handle(frame)
                    return socket.close_code or 1006
                except ConnectionClosed as error:
                    return error.rcvd.code if error.rcvd else 1006
                finally:
                    self._socket = None
                    self.identified = False
                    ticking.cancel()
                    await asyncio.gather(ticking, return_exceptions=True)
        except (OSError, WebSocketException, TimeoutError):
            return 1006

    def _identify(self) -> Frame:
        frame: Frame = {
            "type": "identify",
            "agent_id": self.id,
            "token": self.token,
            "name": self.id,
            "status": "idle",
            "capabilities": self._capabilities,
            "protocol_version": 1,
        }
        return frame if self._features is None else {**frame, "features": list(self._features)}

    async def _tick(self) -> None:
        """Pings, progress, and reports that were not answered; gives up a connection that is silent."""
        loop = asyncio.get_running_loop()
        pinged = progressed = reported = loop.time()
        while True:
            await asyncio.sleep(min(_TICK_S, self._progress_s))
            now = loop.time()
            if now - self._heard_at > self._ping_s + self._pong_timeout_s:
                self.cut()
                return
            if now - pinged >= self._ping_s:
                pinged = now
                await self.send({"type": "ping"})
            if not self.identified:
                continue
            if self._features and self.held and now - progressed >= self._progress_s:
                progressed = now
                await self.send(self._about("task_progress", progress=50))
            if now - reported >= self._ack_timeout_s:
                reported = now
                await self._report()

    # -- frames ----------------------------------------------------------------------------------------------------

    async def _handle(self, frame: Frame) -> None:
        match frame["type"]:
            case "identified":
                self.identified = True
                self._failures = 0
                if self.held is not None and "recover" in (self._features or ()):
                    await self.send(self._about("task_recovering", last_status="working"))
                await self._report()
            case "task_assign":
                await self._assigned(frame)
            case "task_ack":
                self._acknowledged(frame)
            case "task_continue" if self.held is not None and frame["task_id"] == self.held.task_id:
                self.held.generation = frame["generation"]
            case "task_reassign" if self.held is not None and frame["task_id"] == self.held.task_id:
                self._abandon()
            case "task_cancel":
                await self._cancelled(frame)
            case "error":
                await self._refused(frame)

    async def _assigned(self, frame: Frame) -> None:
        task_id, generation = frame["task_id"], frame["generation"]
        if self._unanswered:
            self.overtaken.append(frame)
        if not self.accepts:
            return
        if self.held is not None and self.held.task_id != task_id:
            if self._features is not None:
                await self.send(
                    {"type": "task_rejected", "task_id": task_id, "generation": generation, "reason": "busy"}
                )
            return
        finished = next((key for key in self.outbox if key[0] == task_id), None)
        if finished is not None:
            # The work is done already: the report speaks for the new generation, nothing is started again.
            self.outbox[task_id, generation] = {**self.outbox.pop(finished), "generation": generation}
        elif self.held is None:
            self.held = Held(task_id, generation, asyncio.create_task(self._do(frame), name=f"{self.id} {task_id}"))
        else:
            self.held.generation = generation
        accept: Frame = {"type": "task_accepted", "task_id": task_id}
        await self.send(accept if self._features is None else {**accept, "generation": generation})
        if finished is not None:
            await self._report()

    async def _do(self, frame: Frame) -> None:
        task_id = frame["task_id"]
        self.runs[task_id] += 1
        try:
            report = {"type": "task_complete", "task_id": task_id, **await self.work(frame)}
        except WorkFailed as failure:
            report = {"type": "task_failed", "task_id": task_id, "error": str(failure)}
        held, self.held = self.held, None
        assert held is not None
        self.outbox[task_id, held.generation] = {**report, "generation": held.generation}
        await self._report()

    async def _report(self) -> None:
        """Sends what the hub has not acknowledged."""
        if not self.identified:
            return
        for key, report in list(self.outbox.items()):
            self._unanswered.add(key)
            await self.send(report)

    def _acknowledged(self, frame: Frame) -> None:
        if frame["status"] in {"accepted", "rejected"}:
            return
        for key in self._meant(frame):
            self._unanswered.discard(key)
            self.outbox.pop(key, None)
            self.acknowledged[key] = frame["status"]

    async def _refused(self, frame: Frame) -> None:
        code = frame.get("code") or frame["error"]
        if not self.identified:
            if code in _FATAL:
                self.reconnects = False
            self.cut()
            return
        if frame.get("request_type") in {"task_complete", "task_failed", "task_cancelled"}:
            for key in self._meant(frame):
                self._unanswered.discard(key)
                if code in FINAL:
                    self.outbox.pop(key, None)
                    self.refused[key] = code
        elif (
            self.held is not None
            and code in FINAL
            and frame.get("task_id") == self.held.task_id
            and frame.get("generation") in {None, self.held.generation}
            and "recover" in (self._features or ())
            and frame.get("request_type") != "task_recovering"
        ):
            await self.send(self._about("task_recovering", last_status="working"))

    async def _cancelled(self, frame: Frame) -> None:
        task_id, generation = frame["task_id"], frame["generation"]
        if self._features is None:
            return
        if self.held is not None and self.held.task_id == task_id:
            if generation < self.held.generation:
                return
            self._abandon()
        elif any(key[0] == task_id for key in self.outbox):
            return
        self.outbox[task_id, generation] = {"type": "task_cancelled", "task_id": task_id, "generation": generation}
        await self._report()

    def _meant(self, frame: Frame) -> list[ReportKey]:
        """The unanswered report that an answer is about."""
        generation = frame.get("generation")
        candidates = [*self._unanswered, *self.outbox]
        return [key for key in candidates if key[0] == frame.get("task_id") and generation in {None, key[1]}][:1]

    def _about(self, kind: str, **fields: object) -> Frame:
        assert self.held is not None
        return {"type": kind, "task_id": self.held.task_id, "generation": self.held.generation, **fields}

    def _abandon(self) -> None:
        held, self.held = self.held, None
        if held is not None:
            held.working.cancel()


async def stop_all(agents: Sequence[SocketAgent]) -> None:
    """Stops agents together."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(20):
            await asyncio.gather(*[agent.stop() for agent in agents])
