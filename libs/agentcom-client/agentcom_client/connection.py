"""How the hub is reached: its address, as whom, through which proxies, and whose certificate it has. Does no I/O."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any

import httpx


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A checked address and token. ``tls`` is None where the usual certificate authorities count."""

    url: str
    token: str | None
    timeout: float
    trust_env: bool
    user_agent: str | None
    tls: ssl.SSLContext | None

    @property
    def for_http(self) -> dict[str, Any]:
        """What httpx's clients take."""
        headers = {} if self.user_agent is None else {"user-agent": self.user_agent}
        if self.token is not None:
            headers["authorization"] = f"Bearer {self.token}"
        return {
            "base_url": self.url,
            "headers": headers,
            "timeout": self.timeout,
            "trust_env": self.trust_env,
            "verify": True if self.tls is None else self.tls,
        }

    @property
    def for_websocket(self) -> dict[str, Any]:
        """What ``websockets.connect`` takes."""
        scheme, _, rest = self.url.partition("://")
        options: dict[str, Any] = {"proxy": True if self.trust_env else None}
        if self.user_agent is not None:
            options["user_agent_header"] = self.user_agent
        if scheme != "https":
            return {"uri": f"ws://{rest}/ws", **options}
        return {"uri": f"wss://{rest}/ws", "ssl": True if self.tls is None else self.tls, **options}


def connection(
    url: str,
    *,
    token: str | None,
    timeout: float,
    trust_env: bool,
    ca_file: str | PathLike[str] | None,
    user_agent: str | None,
) -> Connection:
    """Raises ValueError for what is no address or no token, and never tells the token; OSError for a bad CA file."""
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is no address of a hub: {error}") from error
    if address.userinfo:  # would be sent in place of the token
        raise ValueError("The address of a hub has no user name or password in it.")
    has_host = address.scheme in {"http", "https"} and address.host and (address.port is None or address.port < 65_536)
    if not has_host or address.query or address.fragment:
        raise ValueError(f"{url!r} is no address of a hub; it should be like http://127.0.0.1:4000")
    if token is not None and not (token.isascii() and token.isprintable() and token == token.strip()):
        raise ValueError("The token has characters that no token has: perhaps it was not copied as it is.")
    return Connection(
        url=str(address).rstrip("/"),
        token=token,
        timeout=timeout,
        trust_env=trust_env,
        user_agent=user_agent,
        tls=None if ca_file is None else ssl.create_default_context(cafile=fspath(ca_file)),
    )
