"""Addresses of a hub: its HTTP base, and the WebSocket address that goes with it."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from agentcom_sidecar.config import is_loopback
from agentcom_sidecar.failure import ExitCode, Failure


@dataclass(frozen=True, slots=True)
class HubAddress:
    """A checked HTTP base address, without a slash at the end."""

    url: str

    @property
    def host(self) -> str:
        """The host name or address, IPv6 without brackets."""
        return urlsplit(self.url).hostname or ""

    @property
    def encrypted(self) -> bool:
        """Whether it is https."""
        return self.url.startswith("https://")

    @property
    def on_this_machine(self) -> bool:
        """Whether requests stay on loopback."""
        return is_loopback(self.host)

    @property
    def exposed(self) -> bool:
        """Whether a token would travel unencrypted to another machine."""
        return not self.encrypted and not self.on_this_machine

    @property
    def ws_url(self) -> str:
        """The WebSocket address under the same host and port."""
        return ("wss" if self.encrypted else "ws") + self.url.removeprefix("https").removeprefix("http") + "/ws"

    def choose_ws_url(self, offered: object) -> str:
        """The WebSocket address the hub names, unless it is less safe or reaches less far than this one.

        A hub behind a proxy that ends TLS may not know its own scheme, or call itself localhost.
        """
        if not isinstance(offered, str):
            return self.ws_url
        try:
            parts = urlsplit(offered)
            valid = parts.scheme in {"ws", "wss"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            return self.ws_url
        if not valid or parts.username or parts.query or parts.fragment:
            return self.ws_url
        weaker = self.encrypted and parts.scheme != "wss"
        nearer = is_loopback(parts.hostname or "") and not self.on_this_machine
        return self.ws_url if weaker or nearer else offered


def parse_hub(text: str) -> HubAddress:
    """Check a hub address as an operator writes it. Raises Failure."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise _unusable(text, "is not an address") from None
    if parts.scheme in {"ws", "wss"}:
        raise _unusable(text, "is the WebSocket address: give the hub's http or https address")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _unusable(text, "must begin with http:// or https://, such as http://localhost:4000")
    if parts.username or parts.password:
        raise _unusable(f"{parts.scheme}://…", "must not contain a user name or password")
    if parts.query or parts.fragment or port == 0 or any(char.isspace() for char in parts.netloc + parts.path):
        raise _unusable(text, "must only have a host, a port and perhaps a path")
    return HubAddress(f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/"))


def _unusable(text: str, why: str) -> Failure:
    return Failure(f"The hub address {text!r} {why}.", code="invalid_hub", exit_code=ExitCode.USAGE)
