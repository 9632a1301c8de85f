"""The settings of the configuration file that say how an agent is woken and what happens around its repository."""

import re
import shlex
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, field_validator

Milliseconds = Annotated[int, Field(ge=1, le=7 * 24 * 3600 * 1000)]
MillisecondsOrNone = Annotated[int, Field(ge=0, le=365 * 24 * 3600 * 1000)]
WakeMode = Literal["command", "openclaw", "openclaw-exec", "hook"]
ResultMode = Literal["auto", "file", "deferred"]
GitMode = Literal["worktree", "branch", "off"]

OPENCLAW_AGENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
BRANCH = re.compile(r"(?![-/.])(?!.*(\.\.|//|@\{|\.lock(/|\Z)))[A-Za-z0-9._/-]{1,200}(?<![/.])\Z")


def split_command(value: object) -> object:
    """A command line is split once, here, by the shell's quoting rules; no shell ever sees it."""
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"cannot be split into arguments ({error})") from error
    return value or None


class WakeSettings(BaseModel):
    """How the agent is started, how long it may take, and what counts as its result. Times are in milliseconds."""

    wake_mode: WakeMode = "command"
    wake_command: tuple[str, ...] | None = None
    env_allow: list[str] = []
    result: ResultMode | None = None
    results_dir: Path = Path("results")
    confirmation_timeout_ms: Milliseconds = 30_000
    wake_timeout_ms: MillisecondsOrNone = 3_600_000
    wake_patience_ms: MillisecondsOrNone = 120_000
    kill_grace_ms: MillisecondsOrNone = 5_000
    output_limit_bytes: int = Field(default=256 * 1024, ge=1024, le=1024 * 1024)
    output_tail_bytes: int = Field(default=4096, ge=0, le=64 * 1024)
    result_poll_ms: Milliseconds = 200
    stop_agent_on_exit: bool | None = None

    openclaw_command: tuple[str, ...] = ("openclaw",)
    openclaw_agent: str = "main"
    openclaw_wait_ms: Milliseconds = 60_000
    hook_url: str = ""
    hook_token: SecretStr = SecretStr("")

    @field_validator("wake_command", mode="before")
    @classmethod
    def _as_arguments(cls, value: object) -> object:
        return split_command(value)

    @field_validator("openclaw_command", mode="before")
    @classmethod
    def _openclaw_arguments(cls, value: object) -> object:
        return split_command(value) or ("openclaw",)

    @field_validator("openclaw_agent")
    @classmethod
    def _plain_agent(cls, value: str) -> str:
        if not OPENCLAW_AGENT.match(value):
            raise ValueError("must be the id of an OpenClaw agent: letters, digits, '-' and '_'")
        return value

    @field_validator("hook_url")
    @classmethod
    def _http_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment):
            raise ValueError("must be the address of the hooks, such as http://127.0.0.1:18789/hooks")
        return value.rstrip("/")

    @field_validator("confirmation_timeout_ms", mode="before")
    @classmethod
    def _zero_is_default(cls, value: object) -> object:
        return 30_000 if value == 0 else value

    @property
    def result_mode(self) -> ResultMode:
        """What counts as a result: by default a command's output does, an OpenClaw agent's talk does not."""
        return self.result or ("auto" if self.wake_mode == "command" else "file")

    @property
    def stops_agent_on_exit(self) -> bool:
        """Whether the agent ends with the sidecar: by default, if it is a process that was started here."""
        if self.stop_agent_on_exit is None:
            return self.wake_mode in {"command", "openclaw-exec"}
        return self.stop_agent_on_exit


class GitSettings(BaseModel):
    """The repository that tasks work on, and what is done with their commits."""

    repo_dir: Path | None = None
    git_mode: GitMode = "worktree"
    worktrees_dir: Path | None = None
    base_branch: str = ""
    pull_requests: bool = True
    reviewer: str = ""

    @field_validator("base_branch")
    @classmethod
    def _branch_name(cls, value: str) -> str:
        if value and not BRANCH.match(value):
            raise ValueError("must be the name of a branch of origin, such as main")
        return value
