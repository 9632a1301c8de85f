"""The sidecar's configuration file: made from the progress, keeping what the operator added by hand."""

import json
from typing import Any

from agentcom_sidecar.files import make_private_dir, read_object, write_atomic
from agentcom_sidecar.installation import Installation
from agentcom_sidecar.onboarding.progress import Options, Progress, WakeMode


def write_settings(place: Installation, progress: Progress, *, token: str) -> bool:
    """Write the file with mode 0600, in a folder for this user alone; False when it was like that already.

    Keys that are not ours stay as the operator has set them. Raises OSError, or ValueError when a file is there that
    is no JSON object.
    """
    place.create()
    for folder in (place.logs, place.data, place.folder / "results"):
        make_private_dir(folder)
        folder.chmod(0o700)
    before = read_object(place.config_path)
    after = dict(before or {})
    if after.get("repo_dir") == str(place.repo):
        del after["repo_dir"]
    _set_wake(after, progress.options)
    after |= _settings(place, progress, token=token)
    if after == before:
        place.config_path.chmod(0o600)
        return False
    write_atomic(place.config_path, json.dumps(after, ensure_ascii=False, indent=2).encode() + b"\n")
    return True


def options_of(place: Installation) -> dict[str, Any]:
    """What an existing configuration says about our options; empty when there is none. Raises ValueError or OSError."""
    stored = read_object(place.config_path) or {}
    options: dict[str, Any] = {}
    if isinstance(stored.get("capabilities"), list):
        options["capabilities"] = tuple(stored["capabilities"])
    command = stored.get("wake_command")
    if str(stored.get("wake_mode")).startswith("openclaw"):
        options |= {"wake": WakeMode.OPENCLAW, "openclaw_agent": stored.get("openclaw_agent", "main")}
    elif isinstance(command, list) and command:
        options |= {"wake": WakeMode.COMMAND, "wake_command": tuple(command)}
    return options


def _settings(place: Installation, progress: Progress, *, token: str) -> dict[str, Any]:
    options = progress.options
    settings: dict[str, Any] = {
        "agent_id": progress.agent_name,
        "token": token,
        "hub_url": options.ws_url or progress.ws_url,
        "hub_api_url": options.hub_url,
        "capabilities": list(options.capabilities),
        "results_dir": "results",
        "data_dir": "data",
        "log_file": "logs/sidecar.log",
    }
    if options.ca_file:
        settings["ca_file"] = options.ca_file
    if place.repo.exists() and options.repo != "":
        settings["repo_dir"] = str(place.repo)
    return settings


def _set_wake(settings: dict[str, Any], options: Options) -> None:
    """A more special mode of the same family, which only the file can choose, stays."""
    settings.pop("wake_command", None)
    mode = str(settings.pop("wake_mode", "command"))
    match options.wake:
        case WakeMode.COMMAND:
            settings["wake_command"] = list(options.wake_command)
        case WakeMode.OPENCLAW:
            settings["wake_mode"] = mode if mode.startswith("openclaw") else "openclaw"
            settings["openclaw_agent"] = options.openclaw_agent
        case WakeMode.NONE | None:
            if mode == "hook":
                settings["wake_mode"] = mode
