"""``remove-agent``: revoke the token, stop the sidecar, delete the folder; in this order, so that nothing is lost."""

import secrets
import shutil
from pathlib import Path
from typing import Annotated

import typer

from agentcom_sidecar.commands.managed import manager_for
from agentcom_sidecar.commands.options import AdminTokenFileOption, HubOption, JsonOption, admin_token_source, usage
from agentcom_sidecar.commands.output import reporting, say, say_json
from agentcom_sidecar.config import SidecarConfig
from agentcom_sidecar.failure import ExitCode, Failure
from agentcom_sidecar.hub_address import HubAddress, parse_hub
from agentcom_sidecar.hub_api import HubApi, HubRefused
from agentcom_sidecar.installation import Installation, existing, locked
from agentcom_sidecar.invocation import program
from agentcom_sidecar.onboarding.progress import Progress, load_progress
from agentcom_sidecar.process_manager import Kind, ProcessManager, Service, service_pid
from agentcom_sidecar.unfinished_work import unfinished_work

_MAY_BE_KNOWN = "The hub may know {name}, but there is no token to revoke it with: an admin can."


def remove_agent(
    name: Annotated[str | None, typer.Argument(help="The agent.")] = None,
    name_option: Annotated[str | None, typer.Option("--name", "-n", help="The agent, as an option.")] = None,
    hub: HubOption = None,
    admin_token_file: AdminTokenFileOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also if work would be lost: uncommitted, unpushed, unreported.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Revoke an agent's token, stop its sidecar and delete its folder.

    The folder, with the only copy of the token, stays until the hub has revoked it. Exit code 0: all of it is done.
    """
    with reporting(as_json=as_json):
        if (name is None) == (name_option is None):
            raise usage(f"Name the agent: {program()} remove-agent NAME")
        place = existing(name or name_option)
        with locked(place):
            notes = _remove(place, hub=hub, admin_token=admin_token_source(admin_token_file).read(), force=force)
        for note in notes:
            say(f"Note: {note}")
        if as_json:
            say_json({"agent_id": place.name, "removed": True, "notes": notes})
        else:
            typer.echo(f"{place.name} is removed.")


def _remove(place: Installation, *, hub: str | None, admin_token: str | None, force: bool) -> list[str]:
    config = _config(place)
    progress = load_progress(place)
    manager = manager_for(place)
    _refuse_running(place, manager)
    if not force:
        _refuse_loss(place, config)
    notes = _revoke(place, config, progress, hub=hub, admin_token=admin_token)
    manager.remove(Service(place))
    say(f"[2/3] The sidecar of {place.name} is stopped.")
    _delete(place)
    say(f"[3/3] {place.folder} is deleted.")
    return notes


def _config(place: Installation) -> SidecarConfig | None:
    """None for a setup that never got that far."""
    if not place.config_path.exists():
        return None
    config, _ = place.load()
    return config


def _refuse_running(place: Installation, manager: ProcessManager) -> None:
    """A sidecar that no process manager keeps is stopped by whoever runs it, before its token is revoked."""
    pid = service_pid(Service(place)) if manager.kind is Kind.NONE else None
    if pid is not None:
        raise Failure(
            f"The sidecar of {place.name} runs as process {pid}; nothing was changed.",
            code="still_running",
            advice=("Nothing but you keeps it running: stop it first.",),
        )


def _refuse_loss(place: Installation, config: SidecarConfig | None) -> None:
    found = unfinished_work(place, config)
    if found:
        raise Failure(
            f"{place.name} has work that would be lost; nothing was changed.",
            code="unfinished_work",
            advice=(*found, "Finish, push or save it; or use --force to lose it."),
        )


def _revoke(
    place: Installation,
    config: SidecarConfig | None,
    progress: Progress | None,
    *,
    hub: str | None,
    admin_token: str | None,
) -> list[str]:
    own = None
    if config is not None:
        own = config.token.get_secret_value()
    elif progress is not None and progress.token is not None:
        own = progress.token.get_secret_value()
    token = admin_token or own
    if token is None:
        if progress is not None and progress.registration == "none":
            say(f"[1/3] {place.name} was never registered.")
            return []
        return [_MAY_BE_KNOWN.format(name=place.name)]
    address = _address(hub, config, progress)
    ca_file = config.ca_file if config is not None else None
    try:
        with HubApi(address, token=token, ca_file=ca_file) as api:
            api.revoke_tokens(place.name)
    except HubRefused as error:
        if not (error.status == 401 and admin_token is None):
            raise _not_revoked(place, error) from None
        if config is None and progress is not None and progress.registration == "sent":
            return [_MAY_BE_KNOWN.format(name=place.name)]
        say(f"[1/3] The token of {place.name} is not valid any more.")
        return []
    except Failure as error:
        raise _not_revoked(place, error) from None
    say(f"[1/3] The tokens of {place.name} are revoked.")
    return []


def _address(hub: str | None, config: SidecarConfig | None, progress: Progress | None) -> HubAddress:
    if hub is not None:
        return parse_hub(hub)
    if progress is not None:
        return parse_hub(progress.options.hub_url)
    if config is not None and config.hub_api_url:
        return parse_hub(config.hub_api_url)
    raise usage("It is not known which hub the agent belongs to: give --hub URL.")


def _not_revoked(place: Installation, error: Failure) -> Failure:
    """The agent goes on as it is: its folder holds the only copy of a token that is still valid."""
    if error.exit_code is ExitCode.NO_PERMISSION:
        advice = "Revoking needs an admin: use --admin-token-file FILE or AGENTCOM_ADMIN_TOKEN."
    else:
        advice = f"Try again when the hub is there. If it is gone for good, stop the sidecar and delete {place.folder}."
    return Failure(
        f"The token of {place.name} could not be revoked, so nothing was removed. {error}",
        code="not_revoked",
        exit_code=error.exit_code,
        advice=(advice,),
    )


def _delete(place: Installation) -> None:
    """Moved aside first, so that a crash leaves no half of an agent under its name."""
    aside: Path = place.folder.with_name(f".removing-{place.name}-{secrets.token_hex(4)}")
    try:
        place.folder.rename(aside)
        shutil.rmtree(aside)
    except OSError as error:
        left = aside if aside.exists() else place.folder
        raise Failure(
            f"{left} could not be deleted: {error}.", code="not_deleted", advice=(f"Delete {left} yourself.",)
        ) from None
