"""The hub's HTTP interface as the commands use it: agentcom-client's, with failures that a command can end with."""

from pathlib import Path
from typing import TypeVar

from agentcom_client import AgentState, Client, Health, HubError, calls
from agentcom_client import HubUnreachable as NoAnswer
from agentcom_sidecar import __version__
from agentcom_sidecar.failure import ExitCode, Failure
from agentcom_sidecar.hub_address import HubAddress

TIMEOUT = 15.0

T = TypeVar("T")


class HubUnreachable(Failure):
    """No usable answer. ``maybe_done``: the request may have been carried out all the same."""

    def __init__(self, sentence: str, *, maybe_done: bool) -> None:
        super().__init__(
            sentence,
            code="hub_unreachable",
            exit_code=ExitCode.UNAVAILABLE,
            advice=("Check the address, and that the hub is running.",),
        )
        self.maybe_done = maybe_done


class HubRefused(Failure):
    """The hub answered with an error; ``code`` is its machine code, ``maybe_done`` as for HubUnreachable."""

    def __init__(self, error: HubError) -> None:
        if error.status in {401, 403}:
            exit_code = ExitCode.NO_PERMISSION
        else:
            exit_code = ExitCode.UNAVAILABLE if error.status >= 500 else ExitCode.FAILED
        sentence = f"The hub refused: {error.message or error.code} (HTTP {error.status})"
        super().__init__(sentence, code=error.code, exit_code=exit_code)
        self.status = error.status
        self.maybe_done = error.maybe_done


class HubApi(Client):
    """One hub, asked with one token or none. Every method raises HubUnreachable or HubRefused of this module."""

    def __init__(self, hub: HubAddress, *, token: str | None = None, ca_file: Path | None = None) -> None:
        """Raises Failure when the CA file or the token cannot be used."""
        self.hub = hub
        try:
            super().__init__(
                hub.url,
                token=token,
                timeout=TIMEOUT,
                trust_env=not hub.on_this_machine,
                ca_file=ca_file,
                user_agent=f"agentcom-sidecar/{__version__}",
            )
        except OSError as error:
            raise Failure(
                f"The CA file {ca_file} cannot be used: {error}.", code="invalid_ca_file", exit_code=ExitCode.USAGE
            ) from None
        except ValueError as error:
            raise Failure(str(error), code="invalid_token", exit_code=ExitCode.USAGE) from None

    def ask(self, call: calls.Call[T]) -> T:
        """As the client does it."""
        try:
            return super().ask(call)
        except NoAnswer as error:
            raise HubUnreachable(str(error), maybe_done=error.maybe_done) from None
        except HubError as error:
            raise HubRefused(error) from None

    def checked_health(self) -> Health:
        """How the hub is. Something else at its address is HubUnreachable."""
        health = self.health()
        if health.get("service") != "agent_com":
            sentence = f"Something answers at {self.hub.url}, but it is not an AgentCom hub."
            raise HubUnreachable(sentence, maybe_done=False)
        return health

    def connected_agents(self) -> frozenset[str]:
        """The ids of the agents that are connected now; a hub lists the first thousand."""
        return frozenset(agent["agent_id"] for agent in self.agents())

    def default_repo(self) -> str | None:
        """The repository that agents of this hub work on; None when none is configured."""
        value = self.config("default-repo").get("default_repo")
        return value if isinstance(value, str) and value else None

    def token_owner(self, token: str) -> str | None:
        """Whose token ours is; None when the hub does not tell. HubRefused with status 401: nobody's."""
        owners = {entry["agent_id"] for entry in self.tokens() if entry["token_prefix"] == f"{token[:8]}..."}
        return owners.pop() if len(owners) == 1 else None

    def state_of(self, agent_id: str) -> AgentState | None:
        """The state of a connected agent; None when it is not connected."""
        try:
            return self.agent_state(agent_id)
        except HubRefused as error:
            if error.status == 404:
                return None
            raise
