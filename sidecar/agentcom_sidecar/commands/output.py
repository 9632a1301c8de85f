"""What commands say: results on stdout, everything else on stderr, failures in one form."""

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

import typer
from rich.console import Console

from agentcom_sidecar.failure import ExitCode, Failure


@contextlib.contextmanager
def reporting(*, as_json: bool) -> Iterator[None]:
    """Turn a Failure, and Ctrl-C, into a message and an exit code."""
    try:
        yield
    except Failure as error:
        say_failure(error, as_json=as_json)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        say("Interrupted.")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def say_failure(error: Failure, *, as_json: bool) -> None:
    """The sentence and the advice; for scripts an object on stdout too."""
    if as_json:
        say_json({"error": error.code, "message": str(error), "advice": list(error.advice)})
    say(f"Error: {error}")
    for line in error.advice:
        say(f"  - {line}")


def say(text: str) -> None:
    """A line for people that is not the command's result."""
    typer.echo(text, err=True)


def say_json(value: Any) -> None:
    """The result for a script: one JSON document on a line of stdout."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def console(*, stderr: bool = False) -> Console:
    """Where steps and tables are shown."""
    return Console(file=sys.stderr if stderr else sys.stdout, highlight=False)
