"""Agents in the store: connections, states, and the sweeps that end them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from agentcom.domain.agents import FLAG_UNRESPONSIVE, Agent, AgentId, AgentState
from agentcom.domain.signature import SEPARATOR
from agentcom.errors import (
    AgentNotFound,
    ConnectionReplaced,
    Cooldown,
    GatewayLeaseLost,
    InvalidToken,
    TokenAgentMismatch,
)
from agentcom.settings import MailLimits
from agentcom.store.keys import Keys
from agentcom.store.link import Link, RedisValue
from agentcom.store.rate_limits import remove_matching
from agentcom.store.replies import as_bytes, as_int, as_list
from agentcom.store.scripts import Scripts, new_call_id
from agentcom.store.tasks import Swept

FIELDS = (
    "agent_id",
    "name",
    "status",
    "state",
    "capabilities_sent",
    "task",
    "unresponsive",
    "connected_at",
    "last_state_change",
    "gateway",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """What an agent says of itself when it connects. ``conn`` names this socket; no two share a name."""

    agent_id: str
    conn: str
    gateway: str
    token_digest: str
    name: str | None
    status: str | None
    capabilities: Sequence[str]
    features: Sequence[str]


@dataclass(frozen=True, slots=True)
class Resumption:
    """Frames to write after ``identified``: an unaccepted assignment, a cancel that may not have arrived.

    ``mail_seq`` is the number of the latest message: up to it the mailbox has what the agent missed.
    """

    assign_frame: bytes | None
    cancel_frame: bytes | None
    mail_seq: int = 0


@dataclass(frozen=True, slots=True)
class AgentPage:
    """Connected agents by id. With a cursor there are more."""

    agents: list[Agent]
    cursor: str | None


class AgentStore:
    """Every transition of an agent."""

    def __init__(self, scripts: Scripts, link: Link, keys: Keys, limits: MailLimits) -> None:
        self._scripts = scripts
        self._link = link
        self._keys = keys
        self._limits = limits

    async def connect(self, connection: Connection) -> Resumption:
        """The agent is on this connection from now on, and on no other.

        Raises
        ------
        Cooldown, InvalidToken, TokenAgentMismatch, GatewayLeaseLost
        """
        reply = await self._scripts.call(
            "agent/connect",
            agent_id=connection.agent_id,
            conn=connection.conn,
            gateway=connection.gateway,
            token_digest=connection.token_digest,
            name=connection.name or "",
            status=connection.status or "",
            capabilities=SEPARATOR.join(sorted(set(connection.capabilities))),
            capabilities_sent=orjson.dumps(list(connection.capabilities)),
            features=" ".join(connection.features),
            progress_timeout_ms=self._limits.progress_timeout_ms,
            mailbox_cap=self._limits.mailbox_cap,
        )
        match reply.code:
            case "COOLDOWN":
                raise Cooldown(remaining_ms=reply.number(0))
            case "INVALID_TOKEN":
                raise InvalidToken()
            case "TOKEN_AGENT_MISMATCH":
                raise TokenAgentMismatch()
            case "GATEWAY_LEASE_LOST":
                raise GatewayLeaseLost()
        return Resumption(
            assign_frame=reply.raw(0) or None, cancel_frame=reply.raw(1) or None, mail_seq=reply.number(2)
        )

    async def disconnect(self, agent_id: str, *, conn: str, reason: str, written: int | None = None) -> bool:
        """The connection is gone. False if the agent was on a newer one already.

        ``written``: all mail up to this number was written to the socket.
        """
        reply = await self._scripts.call(
            "agent/disconnect",
            agent_id=agent_id,
            conn=conn,
            reason=reason,
            grace_ms=self._limits.disconnect_grace_ms,
            written="" if written is None else written,
        )
        return reply.code == "OK"

    async def heartbeat(self, agent_id: str, *, conn: str) -> int:
        """The agent is alive. Returns the store's time in milliseconds; raises :class:`ConnectionReplaced`."""
        reply = await self._scripts.call(
            "agent/heartbeat", agent_id=agent_id, conn=conn, progress_timeout_ms=self._limits.progress_timeout_ms
        )
        if reply.code != "OK":
            raise ConnectionReplaced()
        return reply.number(0)

    async def touch(self, agent_ids: Sequence[str]) -> None:
        """These agents showed a sign of life."""
        if agent_ids:
            await self._scripts.call("agent/touch", rest=agent_ids)

    async def set_status(self, agent_id: str, *, conn: str, status: str) -> None:
        """Sets the agent's own status text. Raises :class:`ConnectionReplaced`."""
        reply = await self._scripts.call("agent/status", agent_id=agent_id, conn=conn, status=status)
        if reply.code != "OK":
            raise ConnectionReplaced()

    async def penalize(self, agent_id: str) -> int:
        """The agent sent too many invalid frames. Returns the milliseconds before it may identify again."""
        return (await self._scripts.call("agent/penalize", call_id=new_call_id(), agent_id=agent_id)).number(0)

    async def forget_penalties(self) -> int:
        """Ends all cooldowns. Returns how many agents had offended."""
        return await remove_matching(self._link, self._keys.violations("*"))

    async def expire_grace(self, *, limit: int) -> Swept:
        """Forgets disconnected agents whose grace has passed; their tasks go back to the queue."""
        reply = await self._scripts.call("agent/expire", limit=limit, return_grace_ms=self._limits.return_grace_ms)
        return Swept(reply.number(0), reply.number(1) == 1)

    async def unblock(self, *, limit: int) -> Swept:
        """Lets agents whose rest is over wait for work again."""
        reply = await self._scripts.call("agent/unblock", limit=limit)
        return Swept(reply.number(0), reply.number(1) == 1)

    async def evict(self, *, stale_ms: int, limit: int) -> Swept:
        """Disconnects agents that were silent for ``stale_ms``."""
        reply = await self._scripts.call(
            "agent/evict", stale_ms=stale_ms, grace_ms=self._limits.disconnect_grace_ms, limit=limit
        )
        return Swept(reply.number(0), reply.number(1) == 1)

    async def get(self, agent_id: str) -> Agent:
        """A connected agent, or one that still holds a task. Raises :class:`AgentNotFound`."""
        found = await self._load([agent_id])
        if not found:
            raise AgentNotFound(agent_id=agent_id)
        return found[0]

    async def count(self) -> int:
        """How many agents are connected."""
        return as_int(await self._link.call("ZCARD", self._keys.agents()))

    async def page(self, *, cursor: str | None, limit: int) -> AgentPage:
        """Connected agents in the order of their ids, after the id ``cursor``."""
        low = f"({cursor}" if cursor else "-"
        ids = await self._link.call("ZRANGEBYLEX", self._keys.agents(), low, "+", "LIMIT", 0, limit + 1)
        names = [as_bytes(agent_id).decode() for agent_id in as_list(ids)]
        page = names[:limit]
        return AgentPage(await self._load(page), page[-1] if len(names) > limit else None)

    async def _load(self, agent_ids: Sequence[str]) -> list[Agent]:
        hashes = [self._link.call("HMGET", self._keys.agent(agent_id), *FIELDS) for agent_id in agent_ids]
        if not agent_ids:
            return []
        last_seen = as_list(await self._link.call("ZMSCORE", self._keys.seen(), *agent_ids))
        agents = []
        for pending, heard in zip(hashes, last_seen, strict=True):
            values = as_list(await pending)
            if values[0] is not None:
                agents.append(_build_agent(dict(zip(FIELDS, values, strict=True)), heard))
        return agents


def _build_agent(fields: dict[str, RedisValue], last_seen: RedisValue) -> Agent:
    def text(name: str) -> str | None:
        value = fields[name]
        return value.decode() if isinstance(value, bytes) else None

    def number(name: str) -> int | None:
        value = text(name)
        return None if value is None else int(value)

    return Agent(
        id=AgentId(text("agent_id") or ""),
        name=text("name"),
        status=text("status"),
        state=AgentState(text("state") or AgentState.OFFLINE),
        capabilities=tuple(orjson.loads(text("capabilities_sent") or "[]")),
        current_task_id=text("task"),
        flags=(FLAG_UNRESPONSIVE,) if text("unresponsive") else (),
        connected_at=number("connected_at"),
        last_seen=int(float(last_seen)) if isinstance(last_seen, bytes) else None,
        last_state_change=number("last_state_change"),
        gateway=text("gateway"),
    )
