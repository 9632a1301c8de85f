"""How far the setup of an agent came: written before a step could lose something, and after each step."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_serializer
from pydantic.types import SecretStr

from agentcom_sidecar.failure import ExitCode, Failure
from agentcom_sidecar.files import read_object, to_json, write_atomic
from agentcom_sidecar.installation import Installation
from agentcom_sidecar.invocation import program


class Step(StrEnum):
    """The steps, in order."""

    PREFLIGHT = "preflight"
    REGISTER = "register"
    CLONE = "clone"
    CONFIG = "config"
    PROCESS = "process"
    VERIFY = "verify"


class WakeMode(StrEnum):
    """How the agent hears of a task."""

    COMMAND = "command"
    OPENCLAW = "openclaw"
    NONE = "none"  #: by other means


class Options(BaseModel):
    """What the operator asked for; kept, so that ``--resume`` need not be told again."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    hub_url: str
    ws_url: str | None = None
    ca_file: str | None = None
    wake: WakeMode | None = None
    """None: nobody said; pre-flight refuses that."""
    wake_command: tuple[str, ...] = ()
    openclaw_agent: str = "main"
    capabilities: tuple[str, ...] = ("code",)
    repo: str | None = None
    """None: the hub's default repository, if it has one; empty: none."""
    process_manager: str = "auto"


class Progress(BaseModel):
    """The state of a setup. ``token`` is here only until the configuration file has it.

    While ``registration`` is ``sent``, it is the token that the hub was asked to register.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: Literal[1] = 1
    agent_name: str
    options: Options
    steps_completed: tuple[Step, ...] = ()
    registration: Literal["none", "sent", "done"] = "none"
    """``sent``: the hub may have registered the agent without our hearing of it."""
    token: SecretStr | None = None
    ws_url: str | None = None
    default_repo: str | None = None
    process_manager: str | None = None
    """The one that was chosen."""
    verify_key: str | None = None
    """The idempotency key of a check that is under way."""
    check_pid: int | None = None
    """The sidecar that was started for the check only."""

    @field_serializer("token", when_used="json")
    def _plain(self, token: SecretStr | None) -> str | None:
        return None if token is None else token.get_secret_value()


class ProgressFile:
    """The progress of one installation, on disk; the folder has to exist."""

    def __init__(self, place: Installation, progress: Progress) -> None:
        """Nothing is written yet."""
        self._place = place
        self.now = progress

    def update(self, **changes: Any) -> None:
        """Change some fields; durable on return."""
        self.now = self.now.model_copy(update=changes)
        write_atomic(self._place.progress_path, to_json(self.now.model_dump(mode="json")))

    def complete(self, step: Step, **changes: Any) -> None:
        """Record that a step is done, and what came of it."""
        done = (*(each for each in self.now.steps_completed if each is not step), step)
        self.update(steps_completed=done, **changes)

    def has(self, step: Step) -> bool:
        """Whether the step was completed."""
        return step in self.now.steps_completed


def load_progress(place: Installation) -> Progress | None:
    """The stored progress; None when there is none. Raises Failure when it cannot be read."""
    try:
        stored = read_object(place.progress_path)
        return None if stored is None else Progress.model_validate(stored)
    except (OSError, ValidationError, ValueError) as error:
        reason = error.errors(include_input=False)[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise Failure(
            f"The progress file {place.progress_path} cannot be used: {reason}.",
            code="invalid_progress",
            exit_code=ExitCode.CONFIG,
            advice=(f"Remove it and use: {program()} add-agent --rejoin --name {place.name}",),
        ) from None
