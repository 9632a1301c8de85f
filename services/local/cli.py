"""The command line: ``agentcom up``, ``demo``, ``admin ...``, and what operators ask of a running hub."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, NoReturn

import typer
from pydantic import ValidationError

from agentcom import __version__
from agentcom.errors import AgentComError
from agentcom.observe.logging import configure_logging
from agentcom.settings import Settings
from services.local.operator_cli import add_operator_commands
from services.runtime import StartupError

EXIT_BAD_SETTINGS: Final = 2

app = typer.Typer(
    name="agentcom",
    help="A hub that hands tasks to autonomous agents.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
admin = typer.Typer(help="Look after a hub.", no_args_is_help=True)
token = typer.Typer(help="Tokens.", no_args_is_help=True)
admin.add_typer(token, name="token")
app.add_typer(admin, name="admin")
add_operator_commands(app)

PortOption = Annotated[int | None, typer.Option("--port", "-p", min=0, max=65535, help="HTTP port; also PORT=.")]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"agentcom {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    del version


@app.command()
def up(port: PortOption = None) -> None:
    """Run the whole hub on one port, with a Redis of its own unless AGENTCOM_REDIS_URL names one."""
    from services.local.up import SERVICE, build  # noqa: PLC0415 - the other commands need not load a hub
    from services.runtime import run_service  # noqa: PLC0415

    raise typer.Exit(run_service(SERVICE, build, settings=_settings(port=port)))


@app.command()
def demo(
    port: PortOption = None,
    leave: Annotated[bool, typer.Option("--exit", help="End once every task is done, instead of staying up.")] = False,
) -> None:
    """Run a hub with three example agents and watch a batch of tasks go through."""
    from services.local.demo import run_demo  # noqa: PLC0415

    try:
        raise typer.Exit(run_demo(_settings(port=port), leave=leave))
    except StartupError as error:
        _give_up(str(error))


@token.command("create")
def create_token(
    agent_id: Annotated[str, typer.Option("--agent-id", help="Whose token it is.")] = "admin",
    role: Annotated[str, typer.Option("--role", help="admin, operator or agent.")] = "admin",
    out: Annotated[str | None, typer.Option("--out", help="Its file; default <data>/<agent id>.token.")] = None,
    stdout: Annotated[bool, typer.Option("--stdout", help="Print it instead.")] = False,
) -> None:
    """Make one more token. It is kept nowhere but in the file."""
    from services.local.admin import create_token as create  # noqa: PLC0415

    _administer(lambda settings: create(settings, agent_id=agent_id, role=role, out=out, stdout=stdout))


@admin.command()
def check() -> None:
    """Look for contradictions in the store; exit code 1 if there are any."""
    from services.local.admin import check as run  # noqa: PLC0415

    _administer(run)


@admin.command()
def stats() -> None:
    """Show tasks by state, agents, services and the state of Redis."""
    from services.local.admin import stats as run  # noqa: PLC0415

    _administer(run)


def _administer(command: Callable[[Settings], Awaitable[int]]) -> NoReturn:
    """Runs a command; what goes wrong is one sentence."""
    settings = _settings()
    configure_logging(service="agentcom", level="error", stream=sys.stderr)

    async def run() -> int:
        return await command(settings)

    try:
        code = asyncio.run(run())
    except (StartupError, AgentComError) as error:
        _give_up(str(error))
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


def _settings(*, port: int | None = None) -> Settings:
    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            name = ".".join(str(part) for part in problem["loc"])
            sys.stderr.write(f"agentcom: setting {name}: {problem['msg']}\n")
        raise typer.Exit(EXIT_BAD_SETTINGS) from None
    return settings if port is None else settings.model_copy(update={"port": port})


def _give_up(sentence: str) -> NoReturn:
    sys.stderr.write(f"agentcom: {sentence}\n")
    raise typer.Exit(1)
