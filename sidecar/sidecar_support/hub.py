"""A hub for one agent: real sockets, the contract's frames, and switches for what goes wrong."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

REPORTS = {"task_complete": "complete", "task_failed": "retried", "task_cancelled": "cancelled"}
FEATURES = ["cancel", "generation", "progress", "reject"]


@dataclass
class Hub:
    """Records every frame and answers like a hub; attributes may be changed while it runs."""

    token: str = "t" * 64
    modern: bool = True
    ack_reports: bool = True
    refuse_with: str | None = None
    answer_recovering: str = "task_continue"
    generations: dict[str, int] = field(default_factory=dict)
    unaccepted: dict[str, dict[str, Any]] = field(default_factory=dict)
    frames: list[dict[str, Any]] = field(default_factory=list)
    settled: list[dict[str, Any]] = field(default_factory=list)
    connections: int = 0
    closes: list[int | None] = field(default_factory=list)
    port: int = 0
    _server: Server | None = None
    _socket: ServerConnection | None = None

    @property
    def url(self) -> str:
        """Where sidecars connect."""
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def connected(self) -> bool:
        """Whether an identified agent is there."""
        return self._socket is not None

    async def start(self) -> None:
        """Listen; again on the same port after `stop`."""
        self._server = await serve(self._serve, "127.0.0.1", self.port, ping_interval=None, compression=None)
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        """Vanish, without a closing handshake."""
        self.cut()
        if self._server is not None:
            self._server.close(close_connections=False)
            self._server = None
        await asyncio.sleep(0)

    def cut(self) -> None:
        """Break the connection."""
        if self._socket is not None:
            self._socket.transport.abort()
            self._socket = None

    async def close(self, code: int, reason: str = "") -> None:
        """Close the connection properly."""
        if self._socket is None:
            raise AssertionError("no agent is connected")
        await self._socket.close(code, reason)

    async def send(self, frame: dict[str, Any]) -> None:
        """Push a frame to the agent."""
        if self._socket is None:
            raise AssertionError("no agent is connected")
        await self._socket.send(json.dumps(frame))

    async def assign(self, task_id: str, *, generation: int = 1, description: str = "work", **metadata: Any) -> None:
        """Push an assignment."""
        self.generations[task_id] = generation
        frame = {"type": "task_assign", "task_id": task_id, "description": description, "metadata": metadata}
        self.unaccepted[task_id] = {**frame, "generation": generation, "assigned_at": 1795330689951}
        await self.send(self.unaccepted[task_id])

    def seen(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """The received frames of a type with these field values, oldest first."""
        wanted = {"type": kind, **fields}
        return [frame for frame in self.frames if wanted.items() <= frame.items()]

    async def _serve(self, socket: ServerConnection) -> None:
        self.connections += 1
        try:
            async for data in socket:
                frame = json.loads(data)
                self.frames.append(frame)
                for answer in self._answers(frame):
                    await socket.send(json.dumps(answer))
                if frame["type"] == "identify" and frame["token"] == self.token:
                    self._socket = socket
                    for task_id in sorted(set(self.unaccepted) if self.modern else ()):
                        await self.send(self.unaccepted[task_id])
        except ConnectionClosed:
            pass
        finally:
            self.closes.append(socket.close_code)
            if self._socket is socket:
                self._socket = None

    def _answers(self, frame: dict[str, Any]) -> list[dict[str, Any]]:
        kind, task_id = frame["type"], frame.get("task_id")
        about = {"task_id": task_id, "generation": frame.get("generation")} if self.modern else {"task_id": task_id}
        match kind:
            case "identify" if frame["token"] != self.token:
                return [{"type": "error", "error": "invalid_token"}]
            case "identify":
                extra = {"protocol_version": 1, "features": FEATURES, "max_frame_bytes": 1048576}
                return [{"type": "identified", "agent_id": frame["agent_id"], **(extra if self.modern else {})}]
            case "ping":
                return [{"type": "pong", "timestamp": 0}]
            case "task_accepted":
                self.unaccepted.pop(str(task_id), None)
                return [{"type": "task_ack", "status": "accepted", **about}]
            case "task_rejected":
                return [{"type": "task_ack", "status": "rejected", **about}]
            case "task_recovering":
                generation = self.generations.get(str(task_id))
                return [{"type": self.answer_recovering, "task_id": task_id, "generation": generation}]
            case "task_complete" | "task_failed" | "task_cancelled":
                return self._report(frame, about)
            case _:
                return []

    def _report(self, frame: dict[str, Any], about: dict[str, Any]) -> list[dict[str, Any]]:
        if self.refuse_with is not None:
            error = {"type": "error", "error": f"{frame['type']}_failed: {self.refuse_with}"}
            more = {"code": self.refuse_with, "request_type": frame["type"], **about}
            return [{**error, **more} if self.modern else error]
        if not self.ack_reports:
            return []
        if not any(
            old["task_id"] == frame["task_id"] and old["generation"] == frame["generation"] for old in self.settled
        ):
            self.settled.append(frame)
        return [{"type": "task_ack", "status": REPORTS[frame["type"]], **about}]
