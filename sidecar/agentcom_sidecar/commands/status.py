"""``status``: how the agents of this machine are."""

from dataclasses import asdict, dataclass
from typing import Any

import typer

from agentcom_sidecar.commands.managed import manager_for
from agentcom_sidecar.commands.options import AgentOption, JsonOption
from agentcom_sidecar.commands.output import reporting, say, say_json
from agentcom_sidecar.failure import ExitCode, Failure
from agentcom_sidecar.hub_address import parse_hub
from agentcom_sidecar.hub_api import HubApi
from agentcom_sidecar.installation import Installation, existing, home, installations
from agentcom_sidecar.journal import Journal
from agentcom_sidecar.process_manager import Service, service_pid
from agentcom_sidecar.unfinished_work import count_reports


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentStatus:
    """One agent. None: not known, or not there. ``problems`` are what is not as it should be."""

    agent_id: str
    hub_url: str | None = None
    process_manager: str | None = None
    process: str | None = None
    pid: int | None = None
    restarts: int | None = None
    connected: bool | None = None
    state: str | None = None
    task: str | None = None
    unsent_reports: int = 0
    refused_reports: int = 0
    problems: tuple[str, ...] = ()


def status(agent: AgentOption = None, as_json: JsonOption = False) -> None:
    """Show whether the agents of this machine run, are connected, and work. Exit code 1 if one does not."""
    with reporting(as_json=as_json):
        places = installations() if agent is None else [existing(agent)]
        found = [look_at(place) for place in places]
        if as_json:
            say_json({"agents": [asdict(each) for each in found]})
        elif not found:
            say(f"There is no agent in {home()}.")
        else:
            typer.echo("\n".join(table(found)))
            for each in found:
                for problem in each.problems:
                    say(f"{each.agent_id}: {problem}")
        if any(each.problems for each in found):
            raise typer.Exit(ExitCode.FAILED)


def look_at(place: Installation) -> AgentStatus:
    """Everything that can be found out about an agent; what cannot is a problem."""
    problems: list[str] = []
    known: dict[str, Any] = {}
    try:
        config, _ = place.load()
    except Failure as error:
        return AgentStatus(agent_id=place.name, problems=(str(error),))
    try:
        manager = manager_for(place)
        state = manager.state(Service(place))
        known |= {"process_manager": manager.kind.value, "process": state.status.value, "restarts": state.restarts}
    except Failure as error:
        problems.append(str(error))
    pid = service_pid(Service(place))
    if pid is None:
        problems.append("Its sidecar does not run.")
    try:
        task = Journal(config.data_dir).load()
        known["task"] = None if task is None else task.task_id
    except (OSError, ValueError) as error:
        problems.append(f"Its journal cannot be read: {error}.")
    hub_url = config.hub_api_url or None
    if hub_url is not None:
        try:
            with HubApi(parse_hub(hub_url), token=config.token.get_secret_value(), ca_file=config.ca_file) as api:
                seen = api.state_of(place.name)
            fsm_state = None if seen is None else str(seen.get("fsm_state"))
            known |= {"connected": fsm_state not in {None, "offline"}, "state": fsm_state}
            if not known["connected"]:
                problems.append("The hub does not see it.")
        except Failure as error:
            problems.append(str(error))
    return AgentStatus(
        agent_id=place.name,
        hub_url=hub_url,
        pid=pid,
        unsent_reports=count_reports(config.data_dir),
        refused_reports=len(list((config.data_dir / "outbox" / "refused").glob("*.json"))),
        problems=tuple(problems),
        **known,
    )


def table(found: list[AgentStatus]) -> list[str]:
    """A line for each. It may be wider than the terminal: a name or an id that is cut in two cannot be copied."""
    rows = [("AGENT", "PROCESS", "PID", "HUB", "TASK", "UNSENT")]
    for each in found:
        process = "-" if each.process is None else f"{each.process} ({each.process_manager})"
        hub = {None: "?", True: each.state or "connected", False: "not connected"}[each.connected]
        row = (each.agent_id, process, str(each.pid or "-"), hub, each.task or "-", str(each.unsent_reports))
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
