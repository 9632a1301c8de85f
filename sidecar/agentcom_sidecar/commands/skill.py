"""``skill``: the text that teaches an agent to work with a hub."""

from importlib.resources import files

import typer


def skill() -> None:
    """Print SKILL.md, for the skills folder of your agent."""
    typer.echo(files("agentcom_sidecar").joinpath("skill", "SKILL.md").read_text(encoding="utf-8"), nl=False)
