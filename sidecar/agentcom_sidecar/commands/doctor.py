"""``doctor``: find out what is wrong."""

from dataclasses import asdict

import typer

from agentcom_sidecar.checkup import Finding, Level, examine
from agentcom_sidecar.commands.managed import manager_for
from agentcom_sidecar.commands.options import AgentOption, JsonOption
from agentcom_sidecar.commands.output import console, reporting, say_json
from agentcom_sidecar.failure import ExitCode
from agentcom_sidecar.installation import existing

MARKS = {Level.OK: ("ok     ", "green"), Level.WARNING: ("WARNING", "yellow"), Level.PROBLEM: ("PROBLEM", "red")}


def doctor(agent: AgentOption = None, as_json: JsonOption = False) -> None:
    """Check an agent's configuration, permissions, hub, token, clock, process, wake and repository.

    Exit code 1 if there is a problem; warnings alone give 0.
    """
    with reporting(as_json=as_json):
        place = existing(agent)
        found = list(examine(place, manager_for(place)))
        problems = sum(1 for each in found if each.level is Level.PROBLEM)
        if as_json:
            say_json({"agent_id": place.name, "healthy": problems == 0, "findings": [asdict(each) for each in found]})
        else:
            _show(found)
            summary = {0: "is well", 1: "has a problem"}.get(problems, f"has {problems} problems")
            typer.echo(f"\n{place.name} {summary}.")
        if problems:
            raise typer.Exit(ExitCode.FAILED)


def _show(found: list[Finding]) -> None:
    out = console()
    for each in found:
        mark, style = MARKS[each.level]
        out.print(f"{mark} {each.check:<13} {each.text}", style=style, markup=False, highlight=False, soft_wrap=True)
        if each.advice:
            out.print(f"{'':22}-> {each.advice}", markup=False, highlight=False, soft_wrap=True)
