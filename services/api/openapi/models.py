"""What the answers look like. Every response of the API's tests is held against these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NotRequired

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from agentcom.domain import tasks
from agentcom.domain.agents import AgentState
from agentcom.domain.messages import DeliveryState
from agentcom.store.tokens import Role

_EXACT = with_config(ConfigDict(extra="forbid"))
_OPEN = with_config(ConfigDict(extra="allow"))

JsonObject = dict[str, Any]


@_OPEN
class Error(TypedDict):
    """``error`` is a machine code, ``message`` a sentence; further fields are details."""

    error: str
    message: str
    retryable: NotRequired[Literal[True]]


@_EXACT
class HistoryEntry(TypedDict):
    event: str
    timestamp: int
    details: Any


@_EXACT
@dataclass(frozen=True, slots=True, kw_only=True)
class Task(tasks.Task):
    """A task. What the store keeps as JSON text is JSON here."""

    metadata: JsonObject  # type: ignore[assignment]
    result: JsonObject | None  # type: ignore[assignment]
    history: list[HistoryEntry]  # type: ignore[assignment]


@_EXACT
class Submission(TypedDict):
    status: tasks.TaskStatus
    task_id: str
    priority: tasks.Priority
    created_at: int
    created: bool


@_OPEN
class BulkItem(TypedDict):
    index: int


@_EXACT
class BulkSubmission(TypedDict):
    results: list[BulkItem]
    count: int
    created: int


@_EXACT
class TaskList(TypedDict):
    tasks: list[Task]
    count: int
    cursor: str | None


@_EXACT
class TaskStats(TypedDict):
    by_status: dict[str, int]
    by_priority: dict[str, int]
    dead_letter: int
    queued_index_size: int
    submitted: int
    pruned: int


@_EXACT
class Cancelled(TypedDict):
    status: Literal["cancelled", "cancelling"]
    task_id: str


@_EXACT
class Requeued(TypedDict):
    status: Literal["requeued"]
    task_id: str
    priority: tasks.Priority


@_EXACT
class Agent(TypedDict):
    agent_id: str
    name: str | None
    status: str
    capabilities: list[str]
    connected_at: int | None
    fsm_state: AgentState


@_EXACT
class AgentList(TypedDict):
    agents: list[Agent]
    cursor: str | None


@_EXACT
class Capability(TypedDict):
    name: str


@_EXACT
class AgentStateEntry(TypedDict):
    agent_id: str
    fsm_state: AgentState
    current_task_id: str | None
    capabilities: list[Capability]
    flags: list[str]
    connected_at: int | None
    name: str | None


@_EXACT
class AgentStateDetail(AgentStateEntry):
    last_state_change: int | None


@_EXACT
class AgentStates(TypedDict):
    agents: list[AgentStateEntry]
    cursor: str | None


@_EXACT
class Registration(TypedDict):
    agent_id: str
    token: str
    role: Role
    hub_ws_url: str
    hub_api_url: str
    default_repo: str | None


@_EXACT
class MintedToken(TypedDict):
    agent_id: str
    token: str
    role: Role


@_EXACT
class TokenEntry(TypedDict):
    agent_id: str
    token_prefix: str
    role: Role
    created_at: int


@_EXACT
class TokenList(TypedDict):
    tokens: list[TokenEntry]


@_EXACT
class Revoked(TypedDict):
    status: Literal["revoked"]
    agent_id: str
    revoked: int


@_OPEN
class Health(TypedDict):
    status: Literal["ok", "degraded", "unavailable"]
    service: str


@_EXACT
class AuditEntry(TypedDict):
    at: int
    actor: str
    role: Role
    action: str
    target: JsonObject
    body: JsonObject
    remote: str
    request_id: str


@_EXACT
class AuditLog(TypedDict):
    entries: list[AuditEntry]
    count: int
    cursor: str | None


@_EXACT
class HeartbeatInterval(TypedDict):
    heartbeat_interval_ms: int
    status: NotRequired[Literal["updated"]]


@_EXACT
class MailboxRetention(TypedDict):
    mailbox_ttl_ms: int
    status: NotRequired[Literal["updated"]]


@_EXACT
class DefaultRepo(TypedDict):
    default_repo: str | None
    configured: bool


@_EXACT
class DefaultRepoSet(TypedDict):
    status: Literal["ok"]
    default_repo: str


@_EXACT
class Thresholds(TypedDict):
    queue_growing_checks: int
    failure_rate_pct: float
    stuck_task_ms: int
    error_count_hour: int
    check_interval_ms: int
    cooldowns: dict[str, int]


@_EXACT
class ThresholdsSet(TypedDict):
    status: Literal["updated"]
    effective: Literal["next_check_cycle"]


@_EXACT
class RateLimit(TypedDict):
    capacity: float
    refill_rate_per_min: float


@_EXACT
class RateLimits(TypedDict):
    defaults: dict[str, RateLimit]
    overrides: dict[str, dict[str, RateLimit]]
    whitelist: list[str]


@_EXACT
class OverridesSet(TypedDict):
    status: Literal["updated"]
    agent_id: str
    overrides: dict[str, RateLimit]


@_EXACT
class Listed(TypedDict):
    status: Literal["added", "removed"]
    agent_id: str


@_EXACT
class Whitelist(TypedDict):
    whitelist: list[str]
    status: NotRequired[Literal["updated"]]


@_EXACT
class ResetDone(TypedDict):
    status: Literal["reset_scheduled"]
    triggered_by: str
    cleared: int


@_EXACT
class LogLevelSet(TypedDict):
    status: Literal["ok"]
    level: str


@_EXACT
class Pushed(TypedDict):
    status: Literal["pushed"]
    task_id: str
    agent_id: str


@_EXACT
class AnalyticsSummary(TypedDict):
    total_agents: int
    agents_connected: int
    agents_active: int
    agents_idle: int
    agents_offline: int
    total_messages_24h: int
    requests_denied_24h: int
    timestamp: int


@_EXACT
class AnalyticsAgent(TypedDict):
    agent_id: str
    connected: bool
    idle_ms: int | None
    status: Literal["active", "idle", "offline"]
    messages_sent_24h: int
    messages_received_24h: int
    messages_sent_this_hour: int
    connection_time_24h_ms: int
    last_active: int | None
    last_seen: int | None
    total_connections: int


@_EXACT
class AnalyticsAgents(TypedDict):
    agents: list[AnalyticsAgent]


@_EXACT
class AnalyticsHour(TypedDict):
    bucket: int
    hour: str
    sent: int
    received: int


@_EXACT
class AnalyticsHours(TypedDict):
    agent_id: str
    hourly: list[AnalyticsHour]


@_EXACT
class SchemaField(TypedDict):
    name: str
    type: str


@_EXACT
class FrameSchema(TypedDict):
    type: str
    description: str
    required_fields: list[SchemaField]
    optional_fields: list[SchemaField]


@_EXACT
class BodySchema(TypedDict):
    key: str
    description: str
    required_fields: list[SchemaField]
    optional_fields: list[SchemaField]


@_EXACT
class SchemaLists(TypedDict):
    version: str
    websocket: list[FrameSchema]
    http: list[BodySchema]


@_EXACT
class Schemas(TypedDict):
    version: str
    schemas: SchemaLists


#: ``from`` is no name for an attribute, so these are spelled as dictionaries.
Envelope = TypedDict(
    "Envelope",
    {
        "id": str,
        "from": str,
        "to": str | None,
        "type": str,
        "payload": JsonObject,
        "reply_to": str | None,
        "timestamp": int,
    },
)
Envelope.__pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[attr-defined]


class SequencedEnvelope(Envelope):
    seq: int


class MessageState(SequencedEnvelope):
    state: DeliveryState
    state_at: int


@_EXACT
class MessageSent(TypedDict):
    status: Literal["sent"]
    id: str
    seq: int
    repeated: bool


@_EXACT
class MessageList(TypedDict):
    messages: list[SequencedEnvelope]
    cursor: int
    count: int


@_EXACT
class Mailbox(TypedDict):
    agent_id: str
    messages: list[SequencedEnvelope]
    last_seq: int
    count: int


@_EXACT
class Acked(TypedDict):
    status: Literal["acked"]
    up_to: int
    removed: int


@_EXACT
class Evicted(TypedDict):
    status: Literal["eviction_triggered"]
    evicted: int


@_EXACT
class Thread(TypedDict):
    root: str
    messages: list[Envelope]
    count: int
    truncated: NotRequired[Literal[True]]


@_EXACT
class Replies(TypedDict):
    parent: str
    replies: list[Envelope]
    count: int


@_EXACT
class ThreadRoot(TypedDict):
    message_id: str
    root: str


@_EXACT
class Channel(TypedDict):
    name: str
    description: str
    subscriber_count: int
    created_at: int
    private: bool


@_EXACT
class ChannelDetail(Channel):
    subscribers: list[str]
    created_by: str


@_EXACT
class ChannelList(TypedDict):
    channels: list[Channel]
    cursor: str | None


@_EXACT
class ChannelChange(TypedDict):
    """``channel`` is the name as it was asked for, ``name`` the channel's own."""

    status: Literal["created", "deleted", "subscribed", "already_subscribed", "unsubscribed"]
    channel: NotRequired[str]
    name: NotRequired[str]


@_EXACT
class MemberChange(TypedDict):
    status: Literal["admitted", "expelled"]
    channel: str
    name: str
    agent_id: str


@_EXACT
class Published(TypedDict):
    status: Literal["published"]
    seq: int
    id: str
    repeated: bool


@_EXACT
class Post(TypedDict):
    seq: int
    message: Envelope
    stored_at: int


@_EXACT
class ChannelHistory(TypedDict):
    channel: str
    messages: list[Post]
    count: int


@_EXACT
class Subscriptions(TypedDict):
    agent_id: str
    channels: list[str]
