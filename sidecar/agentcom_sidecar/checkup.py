"""The checks of ``doctor``: what is wrong with an installed agent, and what to do about it."""

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from agentcom_sidecar.child import run_program
from agentcom_sidecar.config import SidecarConfig
from agentcom_sidecar.failure import Failure
from agentcom_sidecar.files import read_tail
from agentcom_sidecar.hub_address import parse_hub
from agentcom_sidecar.hub_api import HubApi
from agentcom_sidecar.installation import Installation
from agentcom_sidecar.invocation import program
from agentcom_sidecar.onboarding.preflight import OLDEST_PYTHON, openclaw_problems
from agentcom_sidecar.onboarding.progress import Step, load_progress
from agentcom_sidecar.onboarding.registration import check_token
from agentcom_sidecar.process_manager import Kind, ProcessManager, Service, Status, run_command, service_pid
from agentcom_sidecar.secrets_input import readable_by_others
from agentcom_sidecar.unfinished_work import count_reports

MAX_SKEW = 30.0
"""Seconds. The hub's clock decides everything, but one that is far off misleads readers of logs and breaks TLS."""
LITTLE_SPACE = 200 * 1024 * 1024
GIT_TIMEOUT = 30.0


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check; ``advice`` says what to do, unless it is fine."""

    check: str
    level: Level
    text: str
    advice: str = ""


def examine(place: Installation, manager: ProcessManager) -> Iterator[Finding]:
    """All checks, in the order in which a reader should mend what they find."""
    yield _python()
    yield from _setup(place)
    yield from _permissions(place)
    try:
        config, doubts = place.load()
    except Failure as error:
        yield Finding("configuration", Level.PROBLEM, str(error), " ".join(error.advice))
        return
    for doubt in doubts:
        yield Finding("configuration", Level.WARNING, doubt)
    if config.agent_id != place.name:
        yield Finding(
            "configuration",
            Level.PROBLEM,
            f"agent_id is {config.agent_id}, but the folder is that of {place.name}.",
            "Set agent_id to the folder's name.",
        )
    if not doubts:
        yield Finding("configuration", Level.OK, str(place.config_path))
    yield from _disk(config)
    yield from _hub(place, config)
    yield from _process(place, manager)
    yield from _wake(config)
    yield from _repository(config)
    yield from _reports(config)


def _python() -> Finding:
    text = f"{sys.version.split()[0]} at {sys.executable}"
    if sys.version_info < OLDEST_PYTHON:
        return Finding("python", Level.PROBLEM, text, "Install Python 3.11 or newer.")
    return Finding("python", Level.OK, text)


def _setup(place: Installation) -> Iterator[Finding]:
    try:
        progress = load_progress(place)
    except Failure as error:
        yield Finding("setup", Level.PROBLEM, str(error), " ".join(error.advice))
        return
    if progress is None:
        return
    missing = [step for step in Step if step not in progress.steps_completed]
    if missing:
        resume = f"{program()} add-agent --resume --name {place.name}"
        yield Finding("setup", Level.PROBLEM, f"Not finished: {', '.join(missing)} missing.", f"Finish it: {resume}")
    else:
        yield Finding("setup", Level.OK, "All steps were done.")


def _permissions(place: Installation) -> Iterator[Finding]:
    secret = [place.folder, place.config_path, place.progress_path, place.data, place.folder / "results"]
    loose = [path for path in secret if readable_by_others(path)]
    for path in loose:
        mode = "700" if path.is_dir() else "600"
        yield Finding("permissions", Level.PROBLEM, f"Other users may look into {path}.", f"chmod {mode} {path}")
    foreign = [path for path in secret if path.exists() and path.stat().st_uid != os.getuid()]
    for path in foreign:
        yield Finding("permissions", Level.PROBLEM, f"{path} belongs to another user.", f"chown {os.getuid()} {path}")
    if not loose and not foreign:
        yield Finding("permissions", Level.OK, f"Only this user may look into {place.folder}.")


def _disk(config: SidecarConfig) -> Iterator[Finding]:
    for folder in (config.data_dir, config.results_dir):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            yield Finding("disk", Level.PROBLEM, f"{there} cannot be written to.", "Give this user the right to.")
    free = shutil.disk_usage(next(path for path in (config.data_dir, *config.data_dir.parents) if path.exists())).free
    if free < LITTLE_SPACE:
        megabytes = free // (1024 * 1024)
        yield Finding("disk", Level.WARNING, f"Only {megabytes} MiB are left for {config.data_dir}.", "Make room.")


def _hub(place: Installation, config: SidecarConfig) -> Iterator[Finding]:
    if not config.hub_api_url:
        yield Finding("hub", Level.WARNING, "hub_api_url is not set, so the hub cannot be asked.", "Set it.")
        return
    try:
        hub = parse_hub(config.hub_api_url)
        token = config.token.get_secret_value()
        with HubApi(hub, token=token, ca_file=config.ca_file) as api:
            health = api.checked_health()
            if health["status"] in {"ok", "degraded"}:
                missing = f", without {', '.join(health['missing'])}" if health.get("missing") else ""
                level = Level.OK if health["status"] == "ok" else Level.WARNING
                yield Finding("hub", level, f"{hub.url} answers: {health['status']}{missing}.")
            else:
                yield Finding("hub", Level.PROBLEM, f"{hub.url} is {health['status']}.", "Look at the hub's own log.")
            yield from _clock(api.clock_skew)
            check_token(api, name=place.name, token=token)
            yield Finding("token", Level.OK, f"It is that of {place.name}.")
            seen = api.state_of(place.name)
    except Failure as error:
        check = "token" if error.code in {"invalid_token", "token_agent_mismatch"} else "hub"
        yield Finding(check, Level.PROBLEM, str(error), " ".join(error.advice))
        return
    if seen is None or seen.get("fsm_state") == "offline":
        yield Finding(
            "connection",
            Level.PROBLEM,
            f"The hub does not see {place.name}.",
            f"See why: {program()} logs --agent {place.name}",
        )
    else:
        yield Finding("connection", Level.OK, f"The hub sees {place.name}: {seen.get('fsm_state')}.")


def _clock(skew: float | None) -> Iterator[Finding]:
    if skew is None:
        return
    if abs(skew) <= MAX_SKEW:
        yield Finding("clock", Level.OK, "It agrees with the hub's.")
    else:
        direction = "ahead of" if skew > 0 else "behind"
        text = f"This machine's clock is {abs(skew):.0f} seconds {direction} the hub's."
        yield Finding("clock", Level.WARNING, text, "Turn on time synchronisation (timedatectl set-ntp true).")


def _process(place: Installation, manager: ProcessManager) -> Iterator[Finding]:
    service = Service(place)
    pid = service_pid(service)
    if manager.kind is Kind.NONE:
        if pid is None:
            yield Finding("process", Level.PROBLEM, "The sidecar does not run.", f"Run it: {run_command(service)}")
        else:
            yield Finding("process", Level.OK, f"The sidecar runs as process {pid}, without a process manager.")
        return
    problem = manager.problem()
    if problem is not None:
        yield Finding("process", Level.PROBLEM, f"{manager.kind} cannot be used: {problem}")
        return
    try:
        state = manager.state(service)
    except Failure as error:
        yield Finding("process", Level.PROBLEM, str(error))
        return
    if state.status is Status.RUNNING and pid == state.pid:
        restarts = "" if not state.restarts else f", restarted {state.restarts} times"
        yield Finding("process", Level.OK, f"{service.name} runs under {manager.kind} as process {pid}{restarts}.")
        return
    said = " ".join(read_tail(service.errors, 400)[0].split())
    code = "" if state.exit_code is None else f" with exit code {state.exit_code}"
    text = f"{service.name} is {state.status} under {manager.kind}{code}.{f' It said: {said}' if said else ''}"
    if pid is not None:
        text += f" Another sidecar runs as process {pid}."
    advice = f"Start it anew: {program()} add-agent --resume --name {place.name}"
    yield Finding("process", Level.PROBLEM, text, advice)


def _wake(config: SidecarConfig) -> Iterator[Finding]:
    if config.wake_mode.startswith("openclaw"):
        problems = openclaw_problems(config.openclaw_agent)
        for problem in problems:
            yield Finding("openclaw", Level.PROBLEM, problem)
        if not problems:
            yield Finding("openclaw", Level.OK, f"It answers and has the agent {config.openclaw_agent}.")
        return
    if config.wake_command is None:
        yield Finding("wake", Level.OK, "The agent is woken by other means.")
        return
    program = config.wake_command[0]
    if shutil.which(program) is None:
        text = f"{program!r} is not on this shell's PATH or not executable."
        yield Finding("wake", Level.PROBLEM, text, "Correct wake_command, or install the program.")
    else:
        yield Finding("wake", Level.OK, f"{program} is there.")


def _repository(config: SidecarConfig) -> Iterator[Finding]:
    repo: Path | None = config.repo_dir
    if repo is None:
        return
    if not repo.is_dir():
        yield Finding("repository", Level.PROBLEM, f"repo_dir {repo} is not there.", "Clone it, or unset repo_dir.")
        return
    answer = run_program(("git", "-C", str(repo), "rev-parse", "--git-dir"), timeout=GIT_TIMEOUT)
    if answer.ok:
        yield Finding("repository", Level.OK, str(repo))
    else:
        yield Finding("repository", Level.WARNING, f"{repo}: {answer.complaint}", "Make it a clone, or git_mode off.")


def _reports(config: SidecarConfig) -> Iterator[Finding]:
    waiting = count_reports(config.data_dir)
    refused = config.data_dir / "outbox" / "refused"
    kept = len(list(refused.glob("*.json")))
    if waiting:
        yield Finding("reports", Level.WARNING, f"Not delivered yet: {waiting}.", "They go out when the hub is there.")
    if kept:
        yield Finding("reports", Level.WARNING, f"Refused by the hub: {kept}.", f"They are kept in {refused}.")
    if not waiting and not kept:
        yield Finding("reports", Level.OK, "All were delivered.")
