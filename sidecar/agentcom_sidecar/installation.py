"""Where the agents of this machine live: ``~/.agentcom/<name>/``, or under ``AGENTCOM_HOME``."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agentcom_sidecar.agent_names import name_problem
from agentcom_sidecar.config import ConfigError, SidecarConfig, load_config
from agentcom_sidecar.failure import ExitCode, Failure
from agentcom_sidecar.files import make_private_dir
from agentcom_sidecar.invocation import program
from agentcom_sidecar.process import LockedError, is_locked, take_lock

HOME_VARIABLE = "AGENTCOM_HOME"


@dataclass(frozen=True, slots=True)
class Installation:
    """One agent's folder. Everything in it is this user's alone."""

    name: str
    folder: Path

    @property
    def config_path(self) -> Path:
        """The sidecar's configuration; the one lasting copy of the token."""
        return self.folder / "config.json"

    @property
    def progress_path(self) -> Path:
        """How far the setup came."""
        return self.folder / ".onboard-progress.json"

    @property
    def lock_path(self) -> Path:
        """Held while a command changes the installation."""
        return self.folder / ".onboard.lock"

    @property
    def repo(self) -> Path:
        """The clone that the agent works on, if it was made here."""
        return self.folder / "repo"

    @property
    def logs(self) -> Path:
        """The sidecar's log, and what a process manager caught of its output."""
        return self.folder / "logs"

    @property
    def data(self) -> Path:
        """The sidecar's journal and outbox."""
        return self.folder / "data"

    @property
    def begun(self) -> bool:
        """Whether there is an agent here, or the beginning of one."""
        return self.config_path.exists() or self.progress_path.exists()

    def create(self) -> None:
        """Make the folder, and that of all agents, for this user alone."""
        make_private_dir(self.folder.parent)
        make_private_dir(self.folder)
        self.folder.chmod(0o700)

    def load(self) -> tuple[SidecarConfig, list[str]]:
        """The configuration and doubts about it. Raises Failure."""
        try:
            return load_config(self.config_path)
        except ConfigError as error:
            raise Failure(
                str(error),
                code="invalid_config",
                exit_code=ExitCode.CONFIG,
                advice=(f"Finish the setup: {program()} add-agent --resume --name {self.name}",),
            ) from None


def home() -> Path:
    """The folder of all agents."""
    configured = os.environ.get(HOME_VARIABLE)
    return Path(configured).expanduser().absolute() if configured else Path.home() / ".agentcom"


def installation(name: str) -> Installation:
    """The place of an agent, there or not. Raises Failure for a name that may not be used."""
    problem = name_problem(name)
    if problem is not None:
        raise Failure(f"The name {name!r} {problem}.", code="invalid_name", exit_code=ExitCode.USAGE)
    return Installation(name, home() / name)


def installations() -> list[Installation]:
    """All agents of this machine, also unfinished ones, by name."""
    try:
        names = sorted(entry.name for entry in home().iterdir() if name_problem(entry.name) is None)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [place for name in names if (place := Installation(name, home() / name)).begun]


def existing(name: str | None) -> Installation:
    """The named agent, or the only one there is. Raises Failure."""
    if name is not None:
        place = installation(name)
        if not place.begun:
            raise Failure(f"There is no agent {name} in {home()}.", code="not_installed")
        return place
    places = installations()
    if len(places) == 1:
        return places[0]
    if not places:
        raise Failure(
            f"There is no agent in {home()}.",
            code="not_installed",
            advice=(f"Add one: {program()} add-agent --hub URL",),
        )
    names = ", ".join(place.name for place in places)
    raise Failure(
        f"There are several agents in {home()}: {names}.",
        code="ambiguous_agent",
        exit_code=ExitCode.USAGE,
        advice=("Name the one you mean with --agent.",),
    )


def running_pid(data_dir: Path) -> int | None:
    """The process id of the sidecar that uses a data folder, whoever started it; None when none runs."""
    lock = data_dir / "sidecar.lock"
    try:
        pid = int(lock.read_text(encoding="ascii"))
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    # Only now, as looking at the lock takes it for a moment, which a sidecar that is just starting could not stand.
    return pid if is_locked(lock) else None


@contextlib.contextmanager
def locked(place: Installation) -> Iterator[None]:
    """Keep other commands from changing an installation; its folder has to exist. Raises Failure.

    What a command that was killed had half written is removed: it may hold a token.
    """
    try:
        lock = take_lock(place.lock_path, content=str(os.getpid()))
    except LockedError as error:
        raise Failure(
            f"Another command (process {error.holder or 'unknown'}) is working on {place.name}.", code="locked"
        ) from None
    try:
        for left_over in place.folder.glob(".*.tmp"):
            left_over.unlink()
        yield
    finally:
        os.close(lock)
