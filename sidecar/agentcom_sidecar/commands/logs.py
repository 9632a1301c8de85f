"""``logs``: what a sidecar has written down."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from agentcom_sidecar.commands.options import AgentOption
from agentcom_sidecar.commands.output import reporting
from agentcom_sidecar.failure import Failure
from agentcom_sidecar.installation import existing

POLL_SECONDS = 0.3
BYTES_A_LINE = 2048
"""More than nearly every line has, so that the wanted number of lines is in what is read."""
NOT_SHOWN = frozenset({"time", "severity", "message", "module", "pid", "node", "agent_id", "function", "line"})


def logs(
    agent: AgentOption = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The lines as they are: one JSON object each.")] = False,
) -> None:
    """Show the log of an agent's sidecar."""
    with reporting(as_json=as_json):
        place = existing(agent)
        config, _ = place.load()
        if config.log_file is None:
            raise Failure(f"{place.name} has no log file: log_file is empty in its configuration.", code="no_log")
        if not config.log_file.exists() and not follow:
            raise Failure(
                f"{place.name} has not written anything to {config.log_file} yet.",
                code="no_log",
                advice=(f"If it does not start, see {place.logs / 'process.err'}.",),
            )
        for line in log_lines(config.log_file, lines=lines, follow=follow):
            typer.echo(line if as_json else readable(line))


def readable(line: str) -> str:
    """A log line for people."""
    try:
        event = json.loads(line)
        fixed = f"{event['time']} {event['severity']:<8} {event['message']}"
    except (ValueError, KeyError, TypeError):
        return line
    rest = " ".join(f"{key}={_value(value)}" for key, value in event.items() if key not in NOT_SHOWN)
    return f"{fixed} {rest}".rstrip()


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if text and " " not in text and text.isprintable() else json.dumps(text, ensure_ascii=False)


def log_lines(path: Path, *, lines: int, follow: bool) -> Iterator[str]:
    """The last lines of a log, then with ``follow`` each new one; a log that is rotated away is read to its end."""
    file = path.open("rb") if path.exists() else None
    rest = b""
    if file is not None:
        start = max(0, file.seek(0, os.SEEK_END) - lines * BYTES_A_LINE)
        file.seek(start)
        *whole, rest = file.read().split(b"\n")
        yield from map(_text, whole[1 if start else 0 :][-lines:] if lines else [])
    while follow:
        rotated = _is_another(path, file)
        data = b"" if file is None else file.read()
        *whole, rest = (rest + data).split(b"\n")
        yield from map(_text, whole)
        if rotated:
            if file is not None:
                file.close()
            file, rest = path.open("rb"), b""
        elif not data:
            time.sleep(POLL_SECONDS)


def _is_another(path: Path, file: BinaryIO | None) -> bool:
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    return file is None or not os.path.samestat(now, os.fstat(file.fileno()))


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")
