"""The configuration file: JSON or TOML, checked before anything else happens.

Keys of the older ``config.json`` are taken as they are. Relative paths count from the folder of the file.
"""

import json
import os
import shlex
import tomllib
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

TOKEN_VARIABLE = "AGENTCOM_SIDECAR_TOKEN"  # noqa: S105 - the name of the variable
LEVELS = ("debug", "info", "notice", "warning", "error")
SHELL_WORDS = frozenset({"|", "||", "&", "&&", ";", ">", ">>", "<", "2>", "2>&1"})

Milliseconds = Annotated[int, Field(ge=1, le=7 * 24 * 3600 * 1000)]
MillisecondsOrNone = Annotated[int, Field(ge=0, le=365 * 24 * 3600 * 1000)]


class ConfigError(Exception):
    """The configuration cannot be used; the message is one sentence for the operator."""


class SidecarConfig(BaseModel):
    """Everything an operator can set. Times are in milliseconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    agent_id: str = Field(min_length=1, max_length=128)
    token: SecretStr
    hub_url: str
    hub_api_url: str = ""
    ca_file: Path | None = None
    capabilities: list[str] = []

    wake_command: tuple[str, ...] | None = None
    repo_dir: Path | None = None
    reviewer: str = ""
    env_allow: list[str] = []
    result: Literal["auto", "file", "deferred"] = "auto"
    results_dir: Path = Path("results")
    confirmation_timeout_ms: Milliseconds = 30_000
    wake_timeout_ms: MillisecondsOrNone = 3_600_000
    kill_grace_ms: MillisecondsOrNone = 5_000
    output_limit_bytes: int = Field(default=256 * 1024, ge=1024, le=1024 * 1024)
    result_poll_ms: Milliseconds = 200
    stop_agent_on_exit: bool = True

    data_dir: Path = Path("data")
    progress_interval_ms: Milliseconds = 30_000
    ping_interval_ms: Milliseconds = 30_000
    pong_timeout_ms: Milliseconds = 10_000
    handshake_timeout_ms: Milliseconds = 15_000
    reconnect_min_ms: Milliseconds = 1_000
    reconnect_max_ms: Milliseconds = 60_000
    ack_timeout_ms: Milliseconds = 10_000

    log_file: Path | None = Path("sidecar.log")
    log_level: str = "info"
    log_max_bytes: int = Field(default=10 * 1024 * 1024, ge=1024)

    base_dir: Path = Path()
    """The folder of the configuration file; set by `load_config`, not by the file."""

    @field_validator("token")
    @classmethod
    def _token_present(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value()
        if not text or len(text) > 256 or not text.isprintable():
            raise ValueError("must be the hub's token for this agent")
        return value

    @field_validator("hub_url")
    @classmethod
    def _websocket_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"ws", "wss"} or not parts.hostname:
            raise ValueError("must be a WebSocket address such as wss://hub.example/ws")
        return value

    @field_validator("capabilities")
    @classmethod
    def _plain_capabilities(cls, value: list[str]) -> list[str]:
        if len(value) > 100 or not all(item and len(item) <= 128 and item.isprintable() for item in value):
            raise ValueError("may have 100 items of 1 to 128 printable characters")
        return value

    @field_validator("wake_command", mode="before")
    @classmethod
    def _as_arguments(cls, value: object) -> object:
        """A command line is split once, here, by the shell's quoting rules; no shell ever sees it."""
        if isinstance(value, str):
            try:
                value = shlex.split(value)
            except ValueError as error:
                raise ValueError(f"cannot be split into arguments ({error})") from error
        return value or None

    @field_validator("repo_dir", "ca_file", "log_file", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None

    @field_validator("confirmation_timeout_ms", mode="before")
    @classmethod
    def _zero_is_default(cls, value: object) -> object:
        return 30_000 if value == 0 else value

    @property
    def is_plain_remote(self) -> bool:
        """Whether the token would travel unencrypted to another machine."""
        parts = urlsplit(self.hub_url)
        return parts.scheme == "ws" and not is_loopback(parts.hostname or "")


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def load_config(path: Path) -> tuple[SidecarConfig, list[str]]:
    """Read and check a configuration file; also returns sentences about what looks wrong but does not matter.

    Raises ConfigError.
    """
    values = _read(path)
    token = os.environ.get(TOKEN_VARIABLE)
    if token:
        values["token"] = token
    known = set(SidecarConfig.model_fields) - {"base_dir"}
    warnings = [f"Unknown key {key!r} in {path} is ignored." for key in sorted(set(values) - known)]
    level = str(values.get("log_level", "info")).lower()
    level = "warning" if level == "warn" else level
    if level not in LEVELS:
        warnings.append(f"log_level {level!r} is not one of {', '.join(LEVELS)}; info is used.")
        level = "info"
    base = path.resolve().parent
    try:
        config = SidecarConfig.model_validate({**values, "log_level": level, "base_dir": base})
    except ValidationError as error:
        raise ConfigError(_sentence(path, error)) from None
    resolved = {
        name: base / value
        for name in ("results_dir", "data_dir", "log_file", "repo_dir", "ca_file")
        if (value := getattr(config, name)) is not None
    }
    if "token" in values and not token and path.stat().st_mode & 0o077:
        warnings.append(f"Other users may read the token in {path}: chmod 600 it.")
    return config.model_copy(update=resolved), [*warnings, *_doubts(config)]


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"There is no configuration file at {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The configuration file {path} cannot be read: {error}.") from None
    try:
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except ValueError as error:
        kind = "TOML" if path.suffix == ".toml" else "JSON"
        raise ConfigError(f"The configuration file {path} is not valid {kind}: {error}.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"The configuration file {path} must hold an object with settings.")
    return values


def _sentence(path: Path, error: ValidationError) -> str:
    """The first problem only, without the value: it may be the token."""
    first = error.errors(include_input=False, include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        hint = f" (or set {TOKEN_VARIABLE})" if key == "token" else ""
        return f"The configuration file {path} lacks {key!r}{hint}."
    return f"The configuration file {path} has a wrong {key!r}: {first['msg'].removeprefix('Value error, ')}."


def _doubts(config: SidecarConfig) -> list[str]:
    doubts = []
    if config.is_plain_remote:
        doubts.append("hub_url is not encrypted (ws://) and leaves this machine: the token can be read on the way.")
    words = SHELL_WORDS.intersection(config.wake_command or ())
    if words:
        doubts.append(
            f"wake_command contains {' '.join(sorted(words))}, which has no meaning without a shell; "
            'use ["sh", "-c", "...", "sh", "${TASK_FILE}"] if one is needed.'
        )
    if config.repo_dir is not None:
        doubts.append("repo_dir is the agent's working folder; branches and pull requests are left to the agent.")
    if config.reconnect_min_ms > config.reconnect_max_ms:
        doubts.append("reconnect_min_ms is larger than reconnect_max_ms, which then decides.")
    return doubts
