"""Which hub a command talks to, and as whom."""

from dataclasses import dataclass
from pathlib import Path

from agentcom_sidecar.commands.options import usage
from agentcom_sidecar.commands.output import say
from agentcom_sidecar.hub_address import HubAddress, parse_hub
from agentcom_sidecar.hub_api import HubApi
from agentcom_sidecar.installation import existing
from agentcom_sidecar.onboarding.progress import load_progress
from agentcom_sidecar.secrets_input import SecretSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A hub and a token for it."""

    hub: HubAddress
    token: str
    ca_file: Path | None

    def open(self) -> HubApi:
        """To be used as a context manager."""
        return HubApi(self.hub, token=self.token, ca_file=self.ca_file)


def find_access(*, hub: str | None, agent: str | None, source: SecretSource, ca_file: Path | None) -> Access:
    """The given hub and token; without a token, those of an agent of this machine. Raises Failure."""
    if source.on_command_line:
        say("Warning: a token on the command line can be read by every user of this machine; use --token-file.")
    token = None if agent is not None and source.value is None and source.file is None else source.read()
    if token is not None:
        if hub is None:
            raise usage("The hub's address is missing: give --hub URL or set AGENTCOM_HUB.")
        return Access(hub=parse_hub(hub), token=token, ca_file=ca_file)
    place = existing(agent)
    config, _ = place.load()
    progress = load_progress(place)
    own = config.hub_api_url or (progress.options.hub_url if progress is not None else None)
    address = hub or own
    if address is None:
        raise usage(f"The configuration of {place.name} has no hub_api_url: give --hub URL.")
    if own is not None and parse_hub(address) != parse_hub(own):
        raise usage(f"{place.name} belongs to {own}: its token is not sent to {address}. Give the token of that hub.")
    return Access(hub=parse_hub(address), token=config.token.get_secret_value(), ca_file=ca_file or config.ca_file)
