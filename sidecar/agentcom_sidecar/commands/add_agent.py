"""``add-agent``: from nothing to an agent that has done its first task."""

import json
import os
import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from agentcom_sidecar.commands.options import (
    AdminTokenFileOption,
    CaFileOption,
    EnrolmentKeyFileOption,
    HubOption,
    JsonOption,
    TokenFileOption,
    TokenOption,
    admin_token_source,
    enrolment_key_source,
    token_source,
    usage,
)
from agentcom_sidecar.commands.output import console, reporting, say, say_json
from agentcom_sidecar.failure import Failure
from agentcom_sidecar.invocation import program
from agentcom_sidecar.onboarding.begin import Mode, Ready, Request, onboard
from agentcom_sidecar.onboarding.display import StepDisplay
from agentcom_sidecar.onboarding.progress import WakeMode
from agentcom_sidecar.process_manager import Kind, Service, run_command
from agentcom_sidecar.secrets_input import SecretSource, child_environment


class Manager(StrEnum):
    """What ``--process-manager`` takes."""

    AUTO = "auto"
    PM2 = "pm2"
    SYSTEMD = "systemd"
    NONE = "none"


def add_agent(
    hub: HubOption = None,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="The agent's name; else a ship's name is drawn.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", "-r", help="Go on where an earlier setup stopped.")] = False,
    rejoin: Annotated[
        bool, typer.Option("--rejoin", help="Set up an agent that the hub knows already, over what is here.")
    ] = False,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    admin_token_file: AdminTokenFileOption = None,
    enrolment_key_file: EnrolmentKeyFileOption = None,
    wake_command: Annotated[
        str | None,
        typer.Option(
            "--wake-command",
            help="How your agent is started for a task: a command line, split by the shell's quoting rules but never "
            "run by a shell, or a JSON list of arguments. See the README for its placeholders.",
            metavar="COMMAND",
        ),
    ] = None,
    openclaw: Annotated[bool, typer.Option("--openclaw", help="The agent is one of OpenClaw's.")] = False,
    openclaw_agent: Annotated[str | None, typer.Option("--openclaw-agent", help="Which one; else main.")] = None,
    no_wake: Annotated[bool, typer.Option("--no-wake", help="The agent watches for tasks by other means.")] = False,
    capability: Annotated[
        list[str] | None, typer.Option("--capability", help="What the agent can do; repeat it. Default: code.")
    ] = None,
    repo: Annotated[
        str | None, typer.Option("--repo", help="The repository to work on; else the hub's default.", metavar="URL")
    ] = None,
    no_repo: Annotated[bool, typer.Option("--no-repo", help="The agent needs no repository.")] = False,
    process_manager: Annotated[
        Manager | None, typer.Option("--process-manager", help="What keeps the sidecar running. Default: auto.")
    ] = None,
    ws_url: Annotated[
        str | None,
        typer.Option("--ws-url", help="The hub's WebSocket address, if not the one it names.", metavar="URL"),
    ] = None,
    ca_file: CaFileOption = None,
    verify_timeout: Annotated[
        float, typer.Option("--verify-timeout", min=1, help="Seconds that the agent has for its first task.")
    ] = 180.0,
    run_after: Annotated[
        bool, typer.Option("--run", help="Without a process manager: stay, as the sidecar, after the setup.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Register an agent, set up its sidecar, and check it with a first task.

    Every step can be repeated: after a failure or a crash, --resume goes on where it stopped.
    """
    with reporting(as_json=as_json):
        given = _given(
            hub_url=hub,
            ws_url=ws_url,
            ca_file=None if ca_file is None else str(ca_file.absolute()),
            capabilities=None if capability is None else tuple(capability),
            process_manager=None if process_manager is None else process_manager.value,
            repo=_repo(repo, no_repo=no_repo),
            openclaw_agent=openclaw_agent,
            **_wake(wake_command, openclaw=openclaw or openclaw_agent is not None, no_wake=no_wake),
        )
        source = token_source(token, token_file)
        request = Request(
            mode=_mode(resume=resume, rejoin=rejoin, token=source),
            name=name,
            given=given,
            token=_secret(source) if rejoin else None,
            admin_token=_secret(admin_token_source(admin_token_file)),
            enrolment_key=_secret(enrolment_key_source(enrolment_key_file)),
            verify_timeout=verify_timeout,
        )
        if source.on_command_line:
            say("Warning: a token on the command line can be read by every user of this machine; use --token-file.")
        ready = onboard(request, StepDisplay(console(stderr=as_json)))
        if as_json:
            say_json(_as_json(ready))
        else:
            typer.echo(_summary(ready))
        if run_after and ready.progress.process_manager == Kind.NONE:
            _become_sidecar(Service(ready.place))


def _mode(*, resume: bool, rejoin: bool, token: SecretSource) -> Mode:
    if resume and rejoin:
        raise usage(
            "--resume goes on with a setup that stopped; --rejoin sets an agent up anew with the token it has. Use one."
        )
    if not rejoin and (token.value is not None or token.file is not None):
        raise usage("--token and --token-file are for --rejoin: a new agent gets its token from the hub.")
    return Mode.RESUME if resume else Mode.REJOIN if rejoin else Mode.NEW


def _secret(source: SecretSource) -> SecretStr | None:
    value = source.read()
    return None if value is None else SecretStr(value)


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _repo(repo: str | None, *, no_repo: bool) -> str | None:
    if repo is not None and no_repo:
        raise usage("--repo and --no-repo exclude each other.")
    if repo is not None and "://" not in repo and Path(repo).is_dir():
        return str(Path(repo).absolute())
    return "" if no_repo else repo


def _wake(command: str | None, *, openclaw: bool, no_wake: bool) -> dict[str, Any]:
    if sum((command is not None, openclaw, no_wake)) > 1:
        raise usage("Give one of --wake-command, --openclaw and --no-wake.")
    if command is not None:
        return {"wake": WakeMode.COMMAND, "wake_command": _arguments(command)}
    return {"wake": WakeMode.OPENCLAW if openclaw else WakeMode.NONE if no_wake else None}


def _arguments(command: str) -> tuple[str, ...]:
    if not command.lstrip().startswith("["):
        try:
            return tuple(shlex.split(command))
        except ValueError as error:
            raise usage(f"The wake command cannot be split into arguments: {error}.") from None
    try:
        arguments = json.loads(command)
    except ValueError as error:
        raise usage(f"The wake command begins like a JSON list but is none: {error}.") from None
    if not isinstance(arguments, list) or not all(isinstance(item, str) for item in arguments):
        raise usage("The wake command must be a JSON list of strings.")
    return tuple(arguments)


def _as_json(ready: Ready) -> dict[str, Any]:
    passed = ready.report.passed
    return {
        "agent_id": ready.place.name,
        "hub_url": ready.progress.options.hub_url,
        "folder": str(ready.place.folder),
        "config": str(ready.place.config_path),
        "repo": str(ready.place.repo) if ready.place.repo.exists() else None,
        "process_manager": ready.progress.process_manager,
        "steps": {step.value: outcome for step, outcome in ready.report.steps.items()},
        "verified": None if passed is None else {"task_id": passed.task_id, "seconds": round(passed.seconds, 2)},
        "notes": ready.report.notes,
    }


def _summary(ready: Ready) -> str:
    place, progress, report = ready.place, ready.progress, ready.report
    service = Service(place)
    none = progress.process_manager == Kind.NONE
    state = "is set up" if none or report.passed is None else "is ready and working"
    lines = [
        "",
        f"{place.name} {state}.",
        "",
        f"  Hub        {progress.options.hub_url}",
        f"  Folder     {place.folder}",
    ]
    if place.repo.exists():
        lines.append(f"  Repository {place.repo}")
    how = f"run it: {run_command(service)}" if none else f"{service.name}, under {progress.process_manager}"
    lines += [
        f"  Process    {how}",
        "",
        f'  A task:    {program()} submit --agent {place.name} --target {place.name} --wait "..."',
        f"  How it is: {program()} status --agent {place.name}",
        f"  Its log:   {program()} logs --agent {place.name}",
    ]
    if report.notes:
        lines += ["", *(f"  Note: {note}" for note in report.notes)]
    return "\n".join(lines)


def _become_sidecar(service: Service) -> None:
    """Go on as the sidecar, in this very process: what stops us then stops it."""
    try:
        os.execve(service.argv[0], list(service.argv), child_environment())  # noqa: S606 - no shell is the point
    except OSError as error:
        raise Failure(f"The sidecar could not be started: {error.strerror}.", code="start_failed") from None
