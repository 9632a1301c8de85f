"""The configuration file: JSON or TOML, checked before anything else happens; the environment may override it.

Keys of the older ``config.json`` are taken as they are. Relative paths count from the folder of the file.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from agentcom_sidecar.settings import GitSettings, Milliseconds, WakeSettings

ENVIRONMENT_PREFIX = "AGENTCOM_SIDECAR_"
TOKEN_VARIABLE = "AGENTCOM_SIDECAR_TOKEN"  # noqa: S105 - the name of the variable
LEVELS = ("debug", "info", "notice", "warning", "error")
SHELL_WORDS = frozenset({"|", "||", "&", "&&", ";", ">", ">>", "<", "2>", "2>&1"})


class ConfigError(Exception):
    """The configuration cannot be used; the message is one sentence for the operator."""


class SidecarConfig(WakeSettings, GitSettings):
    """Everything an operator can set. Times are in milliseconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    agent_id: str = Field(min_length=1, max_length=128)
    token: SecretStr
    hub_url: str
    hub_api_url: str = ""
    ca_file: Path | None = None
    capabilities: list[str] = Field(default_factory=list)

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

    @field_validator("repo_dir", "worktrees_dir", "ca_file", "log_file", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return value or None

    @model_validator(mode="after")
    def _hook_is_complete(self) -> Self:
        if self.wake_mode == "hook" and not (self.hook_url and self.hook_token.get_secret_value()):
            raise ValueError("wake_mode 'hook' needs hook_url and hook_token")
        return self

    @property
    def worktrees(self) -> Path:
        """Where each task gets its working tree."""
        return self.worktrees_dir or self.data_dir / "worktrees"

    @property
    def secrets(self) -> frozenset[str]:
        """The values that no other program may see."""
        return frozenset({self.token.get_secret_value(), self.hook_token.get_secret_value()}) - {""}

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
    from_environment = _overrides(os.environ)
    values |= from_environment
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
        for name in ("results_dir", "data_dir", "log_file", "repo_dir", "worktrees_dir", "ca_file")
        if (value := getattr(config, name)) is not None
    }
    if "token" not in from_environment and path.stat().st_mode & 0o077:
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


def _overrides(environment: Mapping[str, str]) -> dict[str, Any]:
    """Settings from ``AGENTCOM_SIDECAR_<KEY>``; lists as JSON or with commas, ``wake_command`` as in the file."""
    found: dict[str, Any] = {}
    for name in set(SidecarConfig.model_fields) - {"base_dir"}:
        text = environment.get(ENVIRONMENT_PREFIX + name.upper())
        if not text:
            continue
        found[name] = text
        if text.startswith("[") and text.endswith("]"):
            try:
                found[name] = json.loads(text)
            except ValueError as error:
                raise ConfigError(f"{ENVIRONMENT_PREFIX}{name.upper()} is not a valid JSON list: {error}.") from None
        elif name in {"capabilities", "env_allow"}:
            found[name] = [item.strip() for item in text.split(",") if item.strip()]
    return found


def _sentence(path: Path, error: ValidationError) -> str:
    """The first problem only, without the value: it may be the token."""
    first = error.errors(include_input=False, include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if not key:
        return f"The configuration file {path} is wrong: {first['msg'].removeprefix('Value error, ')}."
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
    if config.repo_dir is not None and config.git_mode != "off" and not (config.repo_dir / ".git").exists():
        doubts.append(f"repo_dir {config.repo_dir} is no git repository: tasks get no branch and no pull request.")
    if config.wake_mode.startswith("openclaw") and os.environ.get("OPENCLAW_SHELL") == "exec":
        doubts.append(
            "This sidecar was started from an OpenClaw agent's own shell (OPENCLAW_SHELL=exec), where OpenClaw refuses "
            "to start agents: start it from an operator's shell or a process manager."
        )
    if config.reconnect_min_ms > config.reconnect_max_ms:
        doubts.append("reconnect_min_ms is larger than reconnect_max_ms, which then decides.")
    return doubts
