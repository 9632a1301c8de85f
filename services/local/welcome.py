"""What a person needs to know once the hub runs. A token is never shown, only the file that holds it."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape

from agentcom.settings import Settings
from services.api.bootstrap import ADMIN_FILE

_ANY_ADDRESS: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared with, not listened on


def hub_url(settings: Settings) -> str:
    """Where this machine reaches the hub."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    host = "127.0.0.1" if settings.host in _ANY_ADDRESS else settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def shown(path: Path) -> str:
    """A path as short as it can be typed from here."""
    absolute = path.absolute()
    relative = os.path.relpath(absolute)
    return str(absolute) if relative.startswith("..") else relative


def submit_command(url: str, token_file: Path, task: Mapping[str, object]) -> str:
    """A shell command that submits a task and reads the token from its file."""
    return (
        f"curl -sS {url}/api/tasks \\\n"
        f'  -H "Authorization: Bearer $(cat {shlex.quote(shown(token_file))})" \\\n'
        f"  -H 'Content-Type: application/json' \\\n"
        f"  -d {shlex.quote(json.dumps(task))}"
    )


def add_agent_command(url: str, *, vouched_by: str = "") -> str:
    """A shell command that registers an agent and sets its sidecar up. ``vouched_by`` is an option for the trust."""
    return (
        f"{_sidecar_program()} add-agent --hub {url} --name my-agent --no-repo \\\n"
        f"  {vouched_by}--wake-command 'sh -c \"cat $AGENTCOM_TASK_FILE\"'"
    )


def _sidecar_program() -> str:
    """The sidecar's command as it can be typed here: the one installed beside the hub, if there is one."""
    beside = Path(sys.executable).with_name("agentcom-sidecar")
    return shlex.quote(shown(beside)) if beside.exists() else beside.name


def print_welcome(console: Console, settings: Settings, *, embedded: bool) -> None:
    url = hub_url(settings)
    token_file = settings.data_dir / ADMIN_FILE
    data = shown(settings.data_dir) if embedded else "in the Redis of AGENTCOM_REDIS_URL"
    if settings.admin_token is not None:
        kept = "the one in AGENTCOM_ADMIN_TOKEN"
    elif token_file.exists():
        kept = f"in {shown(token_file)}"
    else:
        kept = "made earlier, elsewhere; `agentcom admin token create` makes another one"
    print_text(console, f"\n[bold green]AgentCom is running at {escape(url)}[/]  (Ctrl-C stops it)\n")
    print_text(console, f"  data         {escape(data)}")
    print_text(console, f"  admin token  {escape(kept)}")
    print_text(console, f"  health       {escape(url)}/health\n")
    if token_file.exists() and settings.admin_token is None:
        print_text(console, "[bold]Submit a task[/]")
        print_command(console, submit_command(url, token_file, {"description": "Say hello"}))
    print_onboarding(console, url, vouched_by=_voucher(settings, token_file))


def _voucher(settings: Settings, token_file: Path) -> str:
    """The option that a registration needs: none on this machine's own hub, else the key, else an admin's token."""
    if settings.enrolment_key is not None:
        return "--enrolment-key-file FILE "
    if settings.listens_on_loopback:
        return ""
    return f"--admin-token-file {shlex.quote(shown(token_file))} "


def print_onboarding(console: Console, url: str, *, vouched_by: str = "") -> None:
    print_text(console, "[bold]Onboard an agent[/]")
    print_command(console, add_agent_command(url, vouched_by=vouched_by))


def print_command(console: Console, command: str) -> None:
    """Indented, and never wrapped, so that it can be copied."""
    for line in command.splitlines():
        print_text(console, f"  [cyan]{escape(line)}[/]")
    print_text(console, "")


def print_text(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)
