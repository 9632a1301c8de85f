"""What has to be right before anything is changed. Everything that is wrong is found at once."""

import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from agentcom_sidecar.child import run_program
from agentcom_sidecar.failure import Failure
from agentcom_sidecar.hub_api import HubApi
from agentcom_sidecar.installation import Installation, home
from agentcom_sidecar.onboarding import repository
from agentcom_sidecar.onboarding.progress import Options, WakeMode
from agentcom_sidecar.process_manager import AUTO, ProcessManager, choose

OLDEST_PYTHON = (3, 11)
PROGRAM_TIMEOUT = 60.0
LEFT_OVER = re.compile(r"\.onboard\.lock|\..*\.tmp")
"""What a setup that ended before it began may leave in its folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What pre-flight learned."""

    notes: tuple[str, ...]
    manager: ProcessManager
    default_repo: str | None


def look_around(options: Options, *, place: Installation | None, fresh: bool, api: HubApi) -> Findings:
    """Check everything. ``fresh``: the agent must not exist here yet. ``place`` is None while there is no name.

    Raises Failure with one piece of advice for each problem.
    """
    problems: list[str] = []
    notes: list[str] = []
    if sys.version_info < OLDEST_PYTHON:
        problems.append(f"Python {'.'.join(map(str, OLDEST_PYTHON))} or newer is needed; this is {sys.version}.")
    problems += _folder_problems(place, fresh=fresh)
    repo, hub_problems, hub_notes = _ask_hub(api)
    problems += hub_problems
    notes += hub_notes
    wanted = options.repo if options.repo is not None else repo
    if wanted or (options.repo is None and hub_problems):
        problems += _git_problems()
    address_problem = repository.address_problem(wanted) if wanted else None
    if address_problem is not None:
        problems.append(address_problem)
    problems += wake_problems(options)
    try:
        manager = choose(options.process_manager)
    except Failure as error:
        problems.append(f"{error} Or choose another with --process-manager.")
        raise _not_ready(problems) from None
    if problems:
        raise _not_ready(problems)
    if options.process_manager == AUTO:
        notes.append(f"Process manager: {manager.kind}.")
    if api.hub.exposed:
        notes.append(f"{api.hub.url} is not encrypted: the token can be read on its way. Use https if you can.")
    return Findings(notes=tuple(notes), manager=manager, default_repo=repo)


def _not_ready(problems: list[str]) -> Failure:
    count = "One thing is" if len(problems) == 1 else f"{len(problems)} things are"
    return Failure(f"{count} not as needed; nothing was changed.", code="preflight_failed", advice=problems)


def wake_problems(options: Options) -> list[str]:
    """Whether what is to wake the agent is there and works."""
    match options.wake:
        case WakeMode.COMMAND:
            return _command_problems(options.wake_command)
        case WakeMode.OPENCLAW:
            return openclaw_problems(options.openclaw_agent)
        case WakeMode.NONE:
            return []
        case None:
            return ["It is not said how your agent is woken. Use --wake-command COMMAND, --openclaw, or --no-wake."]


def openclaw_problems(agent: str) -> list[str]:
    """Whether OpenClaw is installed, its gateway answers, and the agent exists; the first problem only."""
    if os.environ.get("OPENCLAW_SHELL") == "exec":
        return ["This is a shell inside an OpenClaw agent, from which OpenClaw refuses to be called: use your own."]
    if shutil.which("openclaw") is None:
        return ["openclaw is not on the PATH. Install it: npm install --global openclaw"]
    version = run_program(("openclaw", "--version"), timeout=PROGRAM_TIMEOUT)
    if not version.ok:
        return [f"openclaw is installed but does not work: {version.complaint}. An old Node.js is a common cause."]
    health = run_program(("openclaw", "health", "--json"), timeout=PROGRAM_TIMEOUT)
    if not health.ok:
        return [f"OpenClaw's gateway does not answer: {health.complaint}. Start it: openclaw gateway start"]
    listed = run_program(("openclaw", "agents", "list", "--json"), timeout=PROGRAM_TIMEOUT)
    try:
        agents = json.loads(listed.stdout) if listed.ok else None
    except ValueError:
        agents = None
    if isinstance(agents, list):
        names = [str(entry.get("id")) for entry in agents if isinstance(entry, dict)]
        if agent not in names:
            return [f"OpenClaw has no agent {agent!r}, only: {', '.join(names)}. Choose one with --openclaw-agent."]
    return []


def _folder_problems(place: Installation | None, *, fresh: bool) -> list[str]:
    if place is not None and fresh:
        if place.begun:
            ways = "Use --resume to finish its setup, --rejoin to set it up anew, remove-agent, or another --name."
            return [f"The agent {place.name} already exists in {place.folder}. {ways}"]
        if place.folder.exists() and not place.folder.is_dir():
            return [f"{place.folder} is not a folder. Choose another --name."]
        if place.folder.exists() and not all(LEFT_OVER.fullmatch(entry.name) for entry in place.folder.iterdir()):
            return [f"{place.folder} exists and is not empty. Move it away or choose another --name."]
    base = next(path for path in (home(), *home().parents) if path.exists())
    if not os.access(base, os.W_OK | os.X_OK):
        return [f"{base} cannot be written to. Set AGENTCOM_HOME to a folder that can."]
    return []


def _git_problems() -> list[str]:
    if shutil.which("git") is None:
        return ["git is not on the PATH. Install it, or use --no-repo if the agent needs no repository."]
    version = run_program(("git", "--version"), timeout=PROGRAM_TIMEOUT)
    return [] if version.ok else [f"git is installed but does not work: {version.complaint}"]


def _ask_hub(api: HubApi) -> tuple[str | None, list[str], list[str]]:
    """The hub's default repository, problems, notes."""
    try:
        health = api.checked_health()
        if health["status"] == "unavailable":
            return None, ["The hub answers but cannot reach its store. Start its Redis, or wait until it is back."], []
        missing = f" ({', '.join(health['missing'])})" if health.get("missing") else ""
        notes = [f"Parts of the hub do not run{missing}: tasks may wait."] if health["status"] == "degraded" else []
    except Failure as error:
        return None, [f"{error} {' '.join(error.advice)}".strip()], []
    try:
        return api.default_repo(), [], notes
    except Failure:
        return None, [], notes  # An older or a stricter hub names it in its answer to the registration.


def _command_problems(command: tuple[str, ...]) -> list[str]:
    if not command:
        return ["The wake command is empty."]
    program = command[0]
    if "/" in program and not Path(program).is_absolute():
        return [f"The program of the wake command, {program!r}, is relative: give its absolute path."]
    if shutil.which(program) is None:
        return [f"The program of the wake command, {program!r}, is not on the PATH or not executable."]
    return []
