"""``agentcom-sidecar git COMMAND [JSON]``: the git workflow's steps one by one, for scripts and agents of older setups.

Each prints one JSON object on one line: ``{"status": "ok", ...}`` with exit code 0, or ``{"status": "error", "error":
<code>, ...}`` with exit code 1.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from agentcom_sidecar.config import ConfigError, SidecarConfig, load_config
from agentcom_sidecar.git import GitError


def git(
    command: Annotated[str, typer.Argument(help="start-task, submit or status")],
    arguments: Annotated[str, typer.Argument(help='a JSON object: {"task_id": "...", "description": "..."}')] = "{}",
    config: Annotated[Path, typer.Option("--config", "-c", help="The sidecar's configuration.")] = Path("config.json"),
) -> None:
    """Prepare the branch of a task, submit it, or say how it stands; prints one line of JSON."""
    import structlog  # noqa: PLC0415 - the other commands need no log

    from agentcom_sidecar.git_steps import STEPS, carry_out  # noqa: PLC0415

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        if command not in STEPS:
            raise GitError("unknown_command", f"there is no command {command!r}", available=sorted(STEPS))
        answer = {"status": "ok", **asyncio.run(carry_out(command, _arguments(arguments), _settings(config)))}
    except GitError as error:
        answer = {"status": "error", "error": error.code, "message": error.message, **error.details}
    typer.echo(json.dumps(answer, ensure_ascii=False))
    raise typer.Exit(answer["status"] != "ok")


def _arguments(text: str) -> dict[str, Any]:
    try:
        given = json.loads(text)
    except ValueError as error:
        raise GitError("unexpected_error", f"the arguments are not valid JSON: {error}") from None
    if not isinstance(given, dict):
        raise GitError("unexpected_error", "the arguments must be a JSON object")
    return given


def _settings(path: Path) -> SidecarConfig:
    try:
        settings, _ = load_config(path)
    except ConfigError as error:
        raise GitError("config_invalid" if path.exists() else "config_not_found", str(error)) from None
    return settings
