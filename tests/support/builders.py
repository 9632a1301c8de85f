"""Tasks and agents as most tests want them: say only what matters."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentcom.domain.tasks import NewTask, TaskId
from agentcom.errors import AgentExists
from agentcom.store.agents import Connection, Resumption
from agentcom.store.matching import MatchRequest
from agentcom.store.replies import as_bytes, as_list, as_pairs
from agentcom.store.store import Store
from agentcom.store.tokens import Role, digest

GATEWAY = "gw"
LEASE_MS = 3_600_000


def a_task(task_id: str | None = None, **fields: Any) -> NewTask:
    """A submission; fields as in :class:`NewTask`."""
    defaults: dict[str, Any] = {
        "id": TaskId(task_id or f"task-{secrets.token_hex(8)}"),
        "description": "do it",
        "submitted_by": "submitter",
    }
    return NewTask(**(defaults | fields))


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectedAgent:
    """An agent on a connection, with its token and what it was told on connecting."""

    id: str
    conn: str
    gateway: str
    token_digest: str
    resumption: Resumption


async def a_token(store: Store, agent_id: str) -> str:
    """A token of the agent id, registering it if need be. Returns the digest."""
    try:
        token = await store.tokens.register(agent_id, role=Role.AGENT)
    except AgentExists:
        token = await store.tokens.mint(agent_id, role=Role.AGENT)
    return digest(token)


async def an_agent(
    store: Store,
    agent_id: str = "a1",
    *,
    capabilities: Sequence[str] = (),
    features: Sequence[str] = (),
    gateway: str = GATEWAY,
    conn: str | None = None,
    token_digest: str | None = None,
    lease_ms: int = LEASE_MS,
    name: str | None = None,
    status: str | None = None,
) -> ConnectedAgent:
    """Registers an agent and connects it through a gateway whose lease is taken on the way."""
    token_digest = token_digest or await a_token(store, agent_id)
    conn = conn or f"{agent_id}-conn"
    await store.gateways.renew(gateway, lease_ms=lease_ms, first=True)
    resumption = await store.agents.connect(
        Connection(
            agent_id=agent_id,
            conn=conn,
            gateway=gateway,
            token_digest=token_digest,
            name=name,
            status=status,
            capabilities=capabilities,
            features=features,
        )
    )
    return ConnectedAgent(id=agent_id, conn=conn, gateway=gateway, token_digest=token_digest, resumption=resumption)


async def match_requests(store: Store) -> list[MatchRequest]:
    """What the scheduler has to serve, oldest first."""
    entries = as_list(await store.link.call("XRANGE", store.keys.match(), "-", "+"))
    requests = []
    for entry in entries:
        entry_id, flat = as_list(entry)
        fields = dict(as_pairs(flat))
        requests.append(
            MatchRequest(
                entry=as_bytes(entry_id).decode(),
                kind=fields[b"kind"].decode(),
                name=fields[b"name"].decode(),
                skip=int(fields[b"skip"]),
            )
        )
    return requests


async def serve_matches(store: Store) -> int:
    """Serves match requests, as a scheduler would, until there is none. Returns how many tasks were assigned."""
    matched = 0
    while requests := await match_requests(store):
        matched += await store.matching.serve(requests)
    return matched
