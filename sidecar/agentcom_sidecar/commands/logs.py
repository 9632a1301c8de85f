"""``logs``: what a sidecar has written down."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from agentcom_sidecar.commands.options import AgentOption
from agentcom_sidecar.commands.output import reporting
from agentcom_sidecar.failure import Failure
from agentcom_sidecar.files import read_tail
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
    with reporting(as_json=False):
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
        text, cut = read_tail(config.log_file, lines * BYTES_A_LINE)
        found = text.splitlines()[1 if cut else 0 :]
        for line in found[-lines:] if lines else []:
            typer.echo(line if as_json else readable(line))
        if follow:
            for line in _new_lines(config.log_file):
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


def _new_lines(path: Path) -> Iterator[str]:
    """Whole lines as they are appended; the file may rotate away, or not be there yet."""
    file = path.open("rb") if path.exists() else None
    if file is not None:
        file.seek(0, os.SEEK_END)
    rest = b""
    while True:
        data = file.read() if file is not None else b""
        *whole, rest = (rest + data).split(b"\n")
        yield from (line.decode("utf-8", "replace") for line in whole)
        if data:
            continue
        if path.exists() and (file is None or path.stat().st_ino != os.fstat(file.fileno()).st_ino):
            if file is not None:
                file.close()
            file, rest = path.open("rb"), b""
            continue
        time.sleep(POLL_SECONDS)
