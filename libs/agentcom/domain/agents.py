"""Agents: states, the table of transitions, and the record. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

AgentId = NewType("AgentId", str)


class AgentState(StrEnum):
    """What the hub knows an agent to be doing."""

    IDLE = "idle"  #: connected, may be given a task
    ASSIGNED = "assigned"  #: was pushed a task and has not accepted it yet
    WORKING = "working"  #: accepted its task
    BLOCKED = "blocked"  #: connected, but busy on its own account: it rejected a task and rests
    OFFLINE = "offline"  #: not connected; may still hold a task, within the grace


#: Every legal move of an agent. Any state may be left by a disconnect; a report may be followed by the next assignment.
TRANSITIONS: Mapping[AgentState, frozenset[AgentState]] = {
    AgentState.IDLE: frozenset({AgentState.ASSIGNED, AgentState.OFFLINE}),
    AgentState.ASSIGNED: frozenset(
        {AgentState.WORKING, AgentState.ASSIGNED, AgentState.IDLE, AgentState.BLOCKED, AgentState.OFFLINE}
    ),
    AgentState.WORKING: frozenset({AgentState.IDLE, AgentState.ASSIGNED, AgentState.BLOCKED, AgentState.OFFLINE}),
    AgentState.BLOCKED: frozenset({AgentState.IDLE, AgentState.OFFLINE}),
    AgentState.OFFLINE: frozenset({AgentState.IDLE, AgentState.ASSIGNED, AgentState.WORKING}),
}


class AgentEvent(StrEnum):
    """What happened to an agent or its tokens; the names used on the events stream."""

    JOINED = "agent_joined"
    LEFT = "agent_left"
    STATUS_CHANGED = "agent_status_changed"
    REGISTERED = "agent_registered"
    TOKEN_MINTED = "token_minted"  # noqa: S105 - an event, not a token
    TOKENS_REVOKED = "tokens_revoked"


#: Shown in ``flags`` while the agent's last assignment was lost; such an agent is chosen after all others.
FLAG_UNRESPONSIVE = "unresponsive"


class AgentFeature(StrEnum):
    """What a client says it can do, in ``features`` of its identify frame."""

    PROGRESS = "progress"  #: sends task_progress while its agent works
    CANCEL = "cancel"  #: understands task_cancel
    RECOVER = "recover"  #: sends task_recovering after every identify for a task it holds
    PRESENCE = "presence"  #: wants to be told who comes and goes, however many that are


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A stored agent. Times are epoch milliseconds."""

    id: AgentId
    name: str | None
    status: str | None
    state: AgentState
    capabilities: tuple[str, ...]
    current_task_id: str | None
    flags: tuple[str, ...]
    connected_at: int | None
    last_seen: int | None
    last_state_change: int | None
    gateway: str | None
