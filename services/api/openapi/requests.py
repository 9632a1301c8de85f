"""The bodies that routes take, by key: the very schemas by which they are checked, told as JSON Schema and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agentcom.domain.messages import MAX_CHANNEL_NAME, MAX_MEMBERS, MAX_MESSAGE_ID
from agentcom.observe.logging import LEVELS
from agentcom.settings import Settings
from agentcom.wire import fields as wire
from services.api.routes.admin import push_schema
from services.api.routes.channels import CREATE, MEMBER, ChannelName, Members
from services.api.routes.config import HEARTBEAT, REPO, RETENTION, THRESHOLDS
from services.api.routes.messages import ACK, MessageIdField, message_schema, post_schema
from services.api.routes.onboarding import REGISTER
from services.api.routes.rate_limits import MAX_IDENTITY, OVERRIDES
from services.api.routes.tasks import CANCEL
from services.api.routes.tokens import MINT
from services.api.schemas import (
    AgentIdField,
    Capabilities,
    Field,
    Flag,
    Integer,
    JsonObject,
    Key,
    Nested,
    Number,
    Schema,
    Text,
    TokenField,
    Word,
)
from services.api.submission import submission_schema

Described = dict[str, Any]


def body_schemas(settings: Settings) -> dict[str, Schema]:
    """Every schema by its key."""
    return {
        "post_task": submission_schema(settings),
        "post_task_cancel": CANCEL,
        "post_onboard_register": REGISTER,
        "post_message": message_schema(settings),
        "post_mailbox_ack": ACK,
        "post_channel": CREATE,
        "post_channel_member": MEMBER,
        "post_channel_publish": post_schema(settings),
        "post_admin_token": MINT,
        "post_admin_push_task": push_schema(settings),
        "put_heartbeat_interval": HEARTBEAT,
        "put_mailbox_retention": RETENTION,
        "put_default_repo": REPO,
        "put_alert_thresholds": THRESHOLDS,
        "put_rate_limits": OVERRIDES,
        "put_log_level": Schema(required={"level": Word(tuple(LEVELS))}, optional={}),
        "post_whitelist": Schema(required={"agent_id": Text(MAX_IDENTITY)}, optional={}),
    }


def composite_bodies() -> dict[str, Described]:
    """Bodies that are lists of something, as JSON Schema."""
    return {
        "post_tasks_bulk": {
            "type": "object",
            "required": ["tasks"],
            "properties": {
                "tasks": {"type": "array", "maxItems": 1_000, "items": {"$ref": "#/components/schemas/post_task"}}
            },
        },
        "put_whitelist": {
            "type": "object",
            "properties": {"agent_ids": {"type": "array", "items": {"type": "string", "maxLength": MAX_IDENTITY}}},
        },
    }


def json_schema(schema: Schema) -> Described:
    """A schema as JSON Schema; null is as good as none in an optional field."""
    properties = {name: field_schema(field) for name, field in schema.required.items()}
    properties |= {name: _nullable(field_schema(field)) for name, field in schema.optional.items()}
    described: Described = {"type": "object", "properties": properties}
    if schema.required:
        described["required"] = list(schema.required)
    if schema.closed:
        described["additionalProperties"] = False
    return described


def field_schema(field: Field) -> Described:
    """One field as JSON Schema."""
    match field:
        case Text():
            described: Described = {"type": "string", "maxLength": field.limit}
            return {**described, "minLength": 1, "pattern": r"\S"} if field.filled else described
        case Key():
            return {"type": "string", "minLength": 1, "maxLength": field.limit}
        case MessageIdField():
            return {"type": "string", "maxLength": MAX_MESSAGE_ID, "pattern": "^[A-Za-z0-9]"}
        case ChannelName():
            return {"type": "string", "minLength": 1, "maxLength": MAX_CHANNEL_NAME}
        case Members():
            return {"type": "array", "maxItems": MAX_MEMBERS - 1, "items": {"type": "string"}}
        case TokenField():
            return {"type": "string", "pattern": "^[0-9a-f]{64}$"}
        case Flag():
            return {"type": "boolean"}
        case AgentIdField():
            return {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"}
        case Integer() | Number():
            kind = "integer" if isinstance(field, Integer) else "number"
            return {"type": kind, "minimum": field.low, "maximum": field.high}
        case Word():
            return {"type": "string", "enum": list(field.words)}
        case Capabilities():
            return {"type": "array", "maxItems": 64, "items": {"type": "string", "minLength": 1, "maxLength": 128}}
        case JsonObject():
            return {"type": "object"}
        case Nested():
            return json_schema(field.schema)
    raise TypeError(f"{field!r} can't be described")


def _nullable(described: Described) -> Described:
    kinds = {**described, "type": [described["type"], "null"]}
    return {**kinds, "enum": [*described["enum"], None]} if "enum" in described else kinds


def type_word(field: Field) -> str:
    """The type of a field in a word, as ``GET /api/schemas`` tells it."""
    match field:
        case Integer():
            return "positive_integer" if field.low > 0 else "integer"
        case Number():
            return "number"
        case Capabilities() | Members():
            return "array<string>"
        case Flag():
            return "boolean"
        case JsonObject() | Nested():
            return "object"
    return "string"


#: The same for the fields of frames.
FRAME_TYPES: Final[Mapping[wire.Kind, str]] = {
    wire.Kind.STRING: "string",
    wire.Kind.INTEGER: "integer",
    wire.Kind.OBJECT: "object",
    wire.Kind.STRINGS: "array<string>",
}
