"""``submit``: give the hub a task, and perhaps wait for its end."""

import json
import secrets
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from agentcom_sidecar.commands.hub_access import find_access
from agentcom_sidecar.commands.options import (
    AgentOption,
    CaFileOption,
    HubOption,
    JsonOption,
    TokenFileOption,
    TokenOption,
    token_source,
    usage,
)
from agentcom_sidecar.commands.output import reporting, say, say_json
from agentcom_sidecar.commands.task_watch import Outcome, watch_task
from agentcom_sidecar.failure import ExitCode, Failure
from agentcom_sidecar.hub_api import HubApi

STDIN = "-"
MAX_INPUT_BYTES = 8 * 1024 * 1024
EXIT_CODES = {
    Outcome.COMPLETED: ExitCode.OK,
    Outcome.FAILED: ExitCode.FAILED,
    Outcome.CANCELLED: ExitCode.CANCELLED,
    Outcome.NOT_OVER: ExitCode.TIMED_OUT,
}


class Priority(StrEnum):
    """What ``--priority`` takes, best first."""

    URGENT = "urgent"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


def submit(
    text: Annotated[
        str | None, typer.Argument(metavar="DESCRIPTION", help="What is to be done; - reads it from stdin.")
    ] = None,
    description: Annotated[str | None, typer.Option("--description", "-d", help="The same, as an option.")] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="The same, from a file.")] = None,
    priority: Annotated[Priority, typer.Option("--priority", "-p", help="How urgent it is.")] = Priority.NORMAL,
    capability: Annotated[
        list[str] | None, typer.Option("--capability", help="What the agent must be able to do; repeat it.")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", "-t", help="Only this agent may do it.")] = None,
    metadata: Annotated[
        str | None, typer.Option("--metadata", help="A JSON object for the agent, or @FILE.", metavar="JSON")
    ] = None,
    max_retries: Annotated[
        int | None, typer.Option("--max-retries", min=0, help="How often it is tried again after a failure.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option("--idempotency-key", help="Submitting again with the same key gives the same task.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Show what happens to it, until it is over.")] = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.1, help="With --wait: seconds after which to stop waiting.")
    ] = None,
    hub: HubOption = None,
    agent: AgentOption = None,
    token: TokenOption = None,
    token_file: TokenFileOption = None,
    ca_file: CaFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a task, with a token that is given or with that of an agent of this machine.

    With --wait the result goes to stdout, and the exit code is: 0 completed, 1 failed, 3 cancelled, 4 not over when
    --timeout was. Ctrl-C stops waiting; the task goes on.
    """
    with reporting(as_json=as_json):
        wanted = _description(text, description, file)
        task: dict[str, Any] = {
            "idempotency_key": idempotency_key or secrets.token_hex(16),
            "priority": priority.value,
            "metadata": _metadata(metadata),
            "needed_capabilities": capability or [],
        }
        task |= {} if target is None else {"target_agent": target}
        task |= {} if max_retries is None else {"max_retries": max_retries}
        access = find_access(hub=hub, agent=agent, source=token_source(token, token_file), ca_file=ca_file)
        with access.open() as api:
            submitted = api.submit_task(wanted, **task)
            task_id = submitted["task_id"]
            if not wait:
                if as_json:
                    say_json(submitted)
                else:
                    typer.echo(task_id)
                return
            say(f"{task_id}: submitted to {access.hub.url}")
            if target is not None and _is_away(api, target):
                say(f"{task_id}: {target} is not connected; the task waits for it")
            try:
                outcome, last = watch_task(api, task_id, timeout=timeout, tell=lambda line: say(f"{task_id}: {line}"))
            except KeyboardInterrupt:
                say(f"{task_id} goes on without us.")
                raise
        if as_json:
            say_json(last)
        elif outcome is Outcome.COMPLETED:
            typer.echo(_shown(last.get("result")))
        raise typer.Exit(EXIT_CODES[outcome])


def _is_away(api: HubApi, agent_id: str) -> bool:
    try:
        seen = api.state_of(agent_id)
    except Failure:
        return False  # whoever watches the task is told
    return seen is None or seen["fsm_state"] == "offline"


def _description(text: str | None, option: str | None, file: Path | None) -> str:
    given = [way for way in (text, option, file) if way is not None]
    if len(given) != 1:
        raise usage("Say what is to be done, in one way: as an argument, with --description or with --file.")
    if file is not None and str(file) != STDIN:
        try:
            return _decoded(file.read_bytes())
        except OSError as error:
            raise usage(f"The description cannot be read from {file}: {error.strerror}.") from None
    if given[0] == STDIN or file is not None:
        return _decoded(sys.stdin.buffer.read(MAX_INPUT_BYTES))
    return str(given[0])


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise usage("The description is not UTF-8 text.") from None


def _metadata(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        source = Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text
        value = json.loads(source)
    except (OSError, ValueError) as error:
        raise usage(f"The metadata cannot be read: {error}.") from None
    if not isinstance(value, dict):
        raise usage("The metadata must be a JSON object.")
    return value


def _shown(result: Any) -> str:
    """The agent's output as text, else the result as JSON."""
    output = result.get("output") if isinstance(result, dict) else None
    if isinstance(output, str):
        return output.removesuffix("\n")
    return json.dumps(result if output is None else output, ensure_ascii=False)
