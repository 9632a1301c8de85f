"""Settings of every service, read from the environment.

The prefix is ``AGENTCOM_``; the names without a prefix (``PORT``, ``ADMIN_AGENTS``, ``VAPID_*``) are those of the hub
this one replaces. Durations are milliseconds and sizes are bytes unless a name says otherwise.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
KIB = 1_024
MIB = 1_024 * KIB


class TaskLimits(BaseSettings):
    """Deadlines and retention of tasks."""

    model_config = SettingsConfigDict(env_prefix="AGENTCOM_", extra="ignore")

    accept_timeout_ms: int = Field(60 * SECOND, gt=0, description="An assignment must be accepted within this time.")
    progress_timeout_ms: int = Field(
        5 * MINUTE, gt=0, description="A working agent must show a sign of life at least this often."
    )
    disconnect_grace_ms: int = Field(
        30 * SECOND, ge=0, description="A disconnected agent keeps its task this long, to reconnect and carry on."
    )
    return_grace_ms: int = Field(
        90 * SECOND,
        ge=0,
        description="After a time without any gateway, agents keep their tasks this long, to come back and carry on.",
    )
    cancel_timeout_ms: int = Field(
        30 * SECOND, gt=0, description="A cancelled task ends after this time even if its agent never answers."
    )
    default_max_retries: int = Field(3, ge=0, le=100, description="Attempts that may fail before dead letters.")
    default_max_deliveries: int = Field(5, ge=1, le=100, description="Lost deliveries before dead letters.")
    default_retry_backoff_ms: int = Field(
        1 * SECOND, ge=0, description="Delay before the first retry; doubles with each further one. 0: at once."
    )
    retry_backoff_cap_ms: int = Field(5 * MINUTE, ge=0, description="Longest delay between two attempts.")
    default_max_runtime_ms: int = Field(
        6 * HOUR, ge=0, description="An accepted attempt may run this long, then it counts as failed. 0: no limit."
    )
    priority_window_ms: int = Field(
        15 * MINUTE, ge=0, description="A lane is strictly ahead of the next lower one for tasks up to this much older."
    )
    reject_cooldown_ms: int = Field(
        5 * SECOND, gt=0, description="Rest of an agent that rejected a task; doubles with each rejection in a row."
    )
    reject_cooldown_cap_ms: int = Field(2 * MINUTE, gt=0, description="Longest such rest.")
    idempotency_ttl_ms: int = Field(DAY, gt=0, description="How long an idempotency key is remembered.")
    finished_max_age_ms: int = Field(7 * DAY, gt=0, description="Completed and cancelled tasks are kept this long.")
    finished_max_count: int = Field(100_000, ge=0, description="... and at most this many of them.")
    dead_max_age_ms: int = Field(30 * DAY, gt=0, description="Dead letters are kept this long.")
    dead_max_count: int = Field(100_000, ge=0, description="... and at most this many of them.")


class MailLimits(TaskLimits):
    """Bounds and retention of messages."""

    mailbox_cap: int = Field(
        100, ge=1, le=1_000, description="Messages kept for an agent that is away; the oldest is dropped first."
    )
    mailbox_ttl_ms: int = Field(7 * DAY, gt=0, description="Unread messages are kept this long.")
    channel_history_cap: int = Field(200, ge=1, le=10_000, description="Posts kept of each channel.")
    message_history_cap: int = Field(10_000, ge=1, le=1_000_000, description="Messages kept in history and threads.")
    max_payload_bytes: int = Field(256 * KIB, gt=0, description="Largest payload of a message, as compact JSON.")


class Settings(MailLimits):
    """Everything a service can be told from outside."""

    # Where things are.
    redis_url: str | None = Field(None, description="redis://, rediss:// or unix:// URL. Unset: embedded Redis.")
    jobs_redis_url: str | None = Field(None, description="Redis of the job queue (arq), if it is another one.")
    namespace: str = Field(
        "default", pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="Prefix and hash tag of every key."
    )
    data_dir: Path = Field(
        Path(".data"),
        description="Embedded Redis data, the first admin token, and the hub's address for the commands run beside it.",
    )
    appendfsync: Literal["always", "everysec"] = Field(
        "always", description="Durability of the embedded Redis: acknowledged means on disk, or within a second."
    )

    # Listening.
    host: str = Field("127.0.0.1", description="Address to listen on. Any other than loopback needs enrolment_key.")
    port: int = Field(
        4000, ge=0, le=65535, validation_alias=AliasChoices("AGENTCOM_PORT", "PORT"), description="HTTP port."
    )
    health_port: int | None = Field(None, description="Port of the health endpoint of services without HTTP.")
    public_url: str | None = Field(
        None, description="Base URL that clients reach the hub under; unset: taken from the request's Host header."
    )
    shutdown_timeout_ms: int = Field(10 * SECOND, gt=0, description="Draining ends after this time.")

    # Who may do what.
    admin_token: SecretStr | None = Field(None, description="The first admin token, at least 32 characters.")
    enrolment_key: SecretStr | None = Field(None, description="Needed to register agents, at least 16 characters.")
    admin_agents: str = Field(
        "",
        validation_alias=AliasChoices("AGENTCOM_ADMIN_AGENTS", "ADMIN_AGENTS"),
        description="Comma-separated agent ids that become admins when an admin or the enrolment key registers them.",
    )
    vapid_public_key: str | None = Field(
        None,
        validation_alias=AliasChoices("AGENTCOM_VAPID_PUBLIC_KEY", "VAPID_PUBLIC_KEY"),
        description="Public key of Web Push notifications.",
    )
    vapid_private_key: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("AGENTCOM_VAPID_PRIVATE_KEY", "VAPID_PRIVATE_KEY"),
        description="Private key of Web Push notifications.",
    )
    public_reads: bool = Field(
        False, description="Whether reads of agents, channels and counters need no token when not on loopback."
    )
    trusted_proxies: str = Field(
        "", description="Comma-separated addresses or networks of proxies whose X-Forwarded-For is believed."
    )
    auth_cache_ttl_ms: int = Field(30 * SECOND, ge=0, description="A verified token is remembered this long.")

    # Limits of the edges. A rate is the number of requests a minute of one agent (or one address, on open routes),
    # and as many may come at once.
    rate_light: int = Field(1_200, ge=0, le=100_000, description="Cheap reads a minute; 0: no limit.")
    rate_normal: int = Field(600, ge=0, le=100_000, description="Ordinary requests a minute; 0: no limit.")
    rate_heavy: int = Field(
        100, ge=0, le=100_000, description="Submissions and other heavy requests a minute; 0: no limit."
    )
    max_body_bytes: int = Field(8_000_000, gt=0, description="Largest HTTP request body.")
    max_frame_bytes: int = Field(1 * MIB, gt=0, description="Largest WebSocket frame from an agent.")
    max_metadata_bytes: int = Field(256 * KIB, gt=0, description="Largest metadata of a task, as compact JSON.")
    max_result_bytes: int = Field(1 * MIB, gt=0, description="Largest result of a task, as compact JSON.")
    outbound_queue_frames: int = Field(1_000, gt=0, description="Frames a slow agent may have waiting.")
    outbound_queue_bytes: int = Field(8 * MIB, gt=0, description="Bytes a slow agent may have waiting.")
    identify_timeout_ms: int = Field(30 * SECOND, gt=0, description="A socket must identify within this time.")
    presence_fanout_max: int = Field(
        200, ge=0, description="Agents on a gateway above which presence events are not pushed to them."
    )

    # Rhythm.
    heartbeat_interval_ms: int = Field(30 * SECOND, gt=0, description="How often agents are asked to ping.")
    stale_agent_ms: int = Field(90 * SECOND, gt=0, description="A connected agent silent this long is disconnected.")
    gateway_lease_ms: int = Field(10 * SECOND, gt=0, description="A gateway that does not renew it is dead.")
    sweep_interval_ms: int = Field(1 * SECOND, gt=0, description="Pause between two sweeps of the reaper.")
    reconcile_interval_ms: int = Field(30 * SECOND, gt=0, description="Pause between two reconciling passes.")
    sweep_batch: int = Field(200, gt=0, le=1_000, description="Deadlines served by one script call.")

    log_level: Literal["debug", "info", "notice", "warning", "error"] = Field("info", description="Least severity.")
    log_format: Literal["auto", "json", "pretty"] = Field("auto", description="auto: pretty on a terminal.")

    @field_validator("admin_token")
    @classmethod
    def _admin_token_length(cls, value: SecretStr | None) -> SecretStr | None:
        return _require_length(value, name="AGENTCOM_ADMIN_TOKEN", minimum=32)

    @field_validator("enrolment_key")
    @classmethod
    def _enrolment_key_length(cls, value: SecretStr | None) -> SecretStr | None:
        return _require_length(value, name="AGENTCOM_ENROLMENT_KEY", minimum=16)

    @property
    def admin_agent_ids(self) -> frozenset[str]:
        return frozenset(name for entry in self.admin_agents.split(",") if (name := entry.strip()))

    @property
    def listens_on_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _require_length(value: SecretStr | None, *, name: str, minimum: int) -> SecretStr | None:
    if value is None or value.get_secret_value() == "":
        return None
    if len(value.get_secret_value()) < minimum:
        raise ValueError(f"{name} must have at least {minimum} characters")
    return value
