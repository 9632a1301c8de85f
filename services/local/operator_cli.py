"""What operators ask of a running hub: tasks, agents, messages, tokens, settings. Over HTTP, through the client."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Final, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentcom_client import Client, HubError, HubUnreachable, Task, WaitTimeout
from services.local.hub_files import read_admin_token, read_url

T = TypeVar("T")

DEFAULT_URL: Final = "http://127.0.0.1:4000"

UrlOption = Annotated[
    str | None,
    typer.Option("--url", envvar="AGENTCOM_URL", help="Where the hub is.", show_default="that of this folder"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
TaskArgument = Annotated[str, typer.Argument(help="The task's id.")]

tasks = typer.Typer(help="Tasks of a running hub.", no_args_is_help=True)
messages = typer.Typer(help="Messages.", no_args_is_help=True)
tokens = typer.Typer(help="Tokens of a running hub.", no_args_is_help=True)
config = typer.Typer(help="Settings that change at run time.", no_args_is_help=True)


def add_operator_commands(app: typer.Typer) -> None:
    """Adds the commands of this module."""
    app.add_typer(tasks, name="tasks")
    app.add_typer(messages, name="messages")
    app.add_typer(tokens, name="tokens")
    app.add_typer(config, name="config")
    app.command("agents")(list_agents)


@tasks.command("list")
def list_tasks(
    status: Annotated[str | None, typer.Option(help="queued, delayed, assigned, completed, ...")] = None,
    assigned_to: Annotated[str | None, typer.Option(help="Only those of this agent.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000)] = 50,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """List tasks; dead letters only by --status dead_letter."""
    page = _ask(url, lambda hub: hub.tasks(status=status, assigned_to=assigned_to, limit=limit))
    if as_json:
        _print_json(page)
        return
    rows = [
        (task["id"], task["status"], str(task["priority"]), task["assigned_to"] or "", task["description"][:60])
        for task in page["tasks"]
    ]
    _print_table(("task", "status", "priority", "agent", "description"), rows)


@tasks.command("show")
def show_task(task_id: TaskArgument, url: UrlOption = None) -> None:
    """Show one task with its history."""
    _print_json(_ask(url, lambda hub: hub.task(task_id)))


@tasks.command("submit")
def submit_task(
    description: str,
    need: Annotated[list[str] | None, typer.Option(help="A capability that the agent must have; repeatable.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only this agent.")] = None,
    priority: Annotated[str | None, typer.Option(help="urgent, high, normal or low.")] = None,
    metadata: Annotated[str | None, typer.Option(help="A JSON object.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end; exit code 1 unless it is completed.")] = False,
    timeout: Annotated[float | None, typer.Option(help="Seconds to wait.")] = None,
    url: UrlOption = None,
) -> None:
    """Submit a task and print its id."""
    given: dict[str, Any] = {
        "needed_capabilities": need or None,
        "target_agent": agent,
        "priority": priority,
        "metadata": None if metadata is None else _object(metadata),
    }
    fields = {name: value for name, value in given.items() if value is not None}

    def run(hub: Client) -> Task | None:
        task_id = hub.submit(description, **fields)
        print(task_id, flush=True)
        return hub.wait(task_id, timeout=timeout) if wait else None

    task = _ask(url, run)
    if task is not None:
        _print_json({"status": task["status"], "result": task["result"], "last_error": task["last_error"]})
        raise typer.Exit(0 if task["status"] == "completed" else 1)


@tasks.command("cancel")
def cancel_task(
    task_id: TaskArgument,
    reason: Annotated[str | None, typer.Option(help="Told to the agent.")] = None,
    url: UrlOption = None,
) -> None:
    """End a task."""
    print(_ask(url, lambda hub: hub.cancel(task_id, reason=reason)))


@tasks.command("retry")
def retry_task(task_id: TaskArgument, url: UrlOption = None) -> None:
    """Queue a dead letter again."""
    _ask(url, lambda hub: hub.retry(task_id))
    print("requeued")


def list_agents(url: UrlOption = None, as_json: JsonOption = False) -> None:
    """List connected agents."""
    found = _ask(url, lambda hub: hub.agents())
    if as_json:
        _print_json(found)
        return
    rows = [
        (agent["agent_id"], agent["fsm_state"], agent["status"], ", ".join(agent["capabilities"])) for agent in found
    ]
    _print_table(("agent", "state", "status", "capabilities"), rows)


@messages.command("send")
def send_message(
    text: Annotated[str, typer.Argument(help="A text, or a JSON object.")],
    to: Annotated[str | None, typer.Option(help="An agent; without it everybody.")] = None,
    channel: Annotated[str | None, typer.Option(help="Publish on this channel instead.")] = None,
    url: UrlOption = None,
) -> None:
    """Send a message."""
    payload = _object(text) if text.lstrip().startswith("{") else {"text": text}
    if channel is None:
        print(_ask(url, lambda hub: hub.send(payload, to=to)))
    else:
        print(_ask(url, lambda hub: hub.publish(channel, payload))["id"])


@messages.command("list")
def list_messages(limit: Annotated[int, typer.Option(min=1, max=200)] = 20, url: UrlOption = None) -> None:
    """Show the newest messages, the newest first."""
    found = _ask(url, lambda hub: hub.messages(limit=limit, newest_first=True))
    rows = [
        (message["id"], message["from"], message["to"] or "everybody", json.dumps(message["payload"])[:80])
        for message in found
    ]
    _print_table(("message", "from", "to", "payload"), rows)


@tokens.command("list")
def list_tokens(url: UrlOption = None) -> None:
    """List tokens by their first characters."""
    found = _ask(url, lambda hub: hub.tokens())
    _print_table(("agent", "role", "token"), [(one["agent_id"], one["role"], one["token_prefix"]) for one in found])


@tokens.command("create")
def create_token(
    agent_id: str,
    role: Annotated[str | None, typer.Option(help="agent, operator or admin.")] = None,
    url: UrlOption = None,
) -> None:
    """Make a token and print it: it is shown this once."""
    print(_ask(url, lambda hub: hub.create_token(agent_id, role=role)))


@tokens.command("revoke")
def revoke_tokens(agent_id: str, url: UrlOption = None) -> None:
    """Revoke all tokens of an agent; its connection is closed."""
    count = _ask(url, lambda hub: hub.revoke_tokens(agent_id))
    print("revoked" if count is None else f"{count} revoked")


@config.command("get")
def get_config(name: Annotated[str, typer.Argument(help="Such as default-repo.")], url: UrlOption = None) -> None:
    """Show a setting: heartbeat-interval, mailbox-retention, default-repo, alert-thresholds."""
    _print_json(_ask(url, lambda hub: hub.config(name)))


@config.command("set")
def set_config(
    name: str,
    values: Annotated[str, typer.Argument(help="A JSON object, as the API takes it.")],
    url: UrlOption = None,
) -> None:
    """Change a setting."""
    _print_json(_ask(url, lambda hub: hub.set_config(name, _object(values))))


def _ask(url: str | None, what: Callable[[Client], T]) -> T:
    """Asks the hub; what goes wrong is one sentence, and exit code 1."""
    try:
        with Client(url or read_url() or DEFAULT_URL, token=_token()) as hub:
            return what(hub)
    except (HubError, HubUnreachable, WaitTimeout, ValueError) as error:
        sys.stderr.write(f"agentcom: {error}\n")
        raise typer.Exit(1) from None


def _token() -> str | None:
    """AGENTCOM_TOKEN, else what the hub of this folder wrote for its first admin."""
    return os.environ.get("AGENTCOM_TOKEN") or read_admin_token()


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{text!r} is no JSON object")
    return value


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))  # text from agents is not markup
    Console(highlight=False).print(table)
