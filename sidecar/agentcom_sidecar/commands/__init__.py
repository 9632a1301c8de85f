"""The commands for operators; ``run`` and ``check`` are in `agentcom_sidecar.cli`."""

from collections.abc import Callable, Mapping
from typing import Any

from agentcom_sidecar.commands.add_agent import add_agent
from agentcom_sidecar.commands.doctor import doctor
from agentcom_sidecar.commands.git import git
from agentcom_sidecar.commands.logs import logs
from agentcom_sidecar.commands.remove_agent import remove_agent
from agentcom_sidecar.commands.skill import skill
from agentcom_sidecar.commands.status import status
from agentcom_sidecar.commands.submit import submit

#: In the order in which the help lists them.
OPERATOR_COMMANDS: Mapping[str, Callable[..., Any]] = {
    "add-agent": add_agent,
    "remove-agent": remove_agent,
    "submit": submit,
    "status": status,
    "logs": logs,
    "doctor": doctor,
    "skill": skill,
    "git": git,
}
