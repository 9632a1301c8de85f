"""The command line: ``run`` and ``check``; the commands for operators are in `agentcom_sidecar.commands`."""

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from agentcom_sidecar import __version__
from agentcom_sidecar.config import ConfigError, SidecarConfig, load_config
from agentcom_sidecar.failure import ExitCode
from agentcom_sidecar.files import make_private_dir
from agentcom_sidecar.process import LockedError, take_lock

EX_TEMPFAIL = 75

app = typer.Typer(
    name="agentcom-sidecar",
    help="Takes tasks from an AgentCom hub, wakes the agent beside it and delivers the agent's result.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="JSON or TOML file; relative paths in it count from its folder.")
]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"agentcom-sidecar {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    del version


@app.command()
def run(config: ConfigOption = Path("config.json")) -> None:
    """Run until stopped. Exit codes: 0 stopped, 75 data folder in use, 78 configuration or token refused."""
    import structlog  # noqa: PLC0415 - the other commands need no log

    from agentcom_sidecar.logs import configure_logging  # noqa: PLC0415

    settings, warnings = _load(config)
    try:
        make_private_dir(settings.data_dir)
        make_private_dir(settings.results_dir)
        configure_logging(
            level=settings.log_level,
            agent_id=settings.agent_id,
            secret=settings.token.get_secret_value(),
            log_file=settings.log_file,
            max_bytes=settings.log_max_bytes,
        )
        take_lock(settings.data_dir / "sidecar.lock", content=str(os.getpid()))  # Held until the process ends.
    except LockedError as error:
        _give_up(f"Another sidecar (pid {error.holder or 'unknown'}) already uses {settings.data_dir}.", EX_TEMPFAIL)
    except OSError as error:
        _give_up(f"A folder or file of the configuration cannot be used: {error}.", ExitCode.CONFIG)
    for warning in warnings:
        structlog.get_logger().warning("config_doubt", text=warning)
    raise typer.Exit(_serve(settings))


@app.command()
def check(config: ConfigOption = Path("config.json")) -> None:
    """Check a configuration file and say what looks wrong; exit code 78 if it cannot be used."""
    settings, warnings = _load(config)
    for warning in warnings:
        typer.echo(f"Warning: {warning}")
    typer.echo(f"{config}: agent {settings.agent_id} on {settings.hub_url}, ok.")


def with_operator_commands() -> typer.Typer:
    """The program with all its commands. Those for operators bring an HTTP client and a console along."""
    from agentcom_sidecar.commands import OPERATOR_COMMANDS  # noqa: PLC0415

    for name, command in OPERATOR_COMMANDS.items():
        app.command(name)(command)
    return app


def main() -> None:
    """Entry point of the script. The sidecar itself starts without loading what only operators need."""
    if sys.argv[1:2] in (["run"], ["check"], ["--version"]):
        app()
    else:
        with_operator_commands()()


def _serve(settings: SidecarConfig) -> int:
    import asyncio  # noqa: PLC0415

    from agentcom_sidecar.sidecar import Sidecar  # noqa: PLC0415 - the other commands need not load it

    try:
        sidecar = Sidecar(settings)
    except OSError as error:
        _give_up(f"ca_file or data_dir cannot be used: {error}.", ExitCode.CONFIG)
    return asyncio.run(sidecar.run())


def _load(path: Path) -> tuple[SidecarConfig, list[str]]:
    try:
        return load_config(path)
    except ConfigError as error:
        _give_up(str(error), ExitCode.CONFIG)


def _give_up(sentence: str, code: int) -> NoReturn:
    sys.stderr.write(f"{sentence}\n")
    raise typer.Exit(code)
