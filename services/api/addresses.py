"""Where a request came to, and the addresses of the hub as its client sees them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from starlette.types import Scope

from services.runtime import StartupError

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

#: A host name, an IPv4 address or an IPv6 address in brackets, and perhaps a port.
_HOST: Final = re.compile(
    r"(?P<name>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252}))(?::(?P<port>\d{1,5}))?"
)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_PROXY_HEADERS: Final = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via")


@dataclass(frozen=True, slots=True)
class HubUrls:
    """Where clients reach the hub."""

    api: str
    ws: str


def parse_host(value: str) -> tuple[str, int | None] | None:
    """Name and port of a Host header, or None if it is not one. IPv6 keeps its brackets."""
    match = _HOST.fullmatch(value)
    if match is None:
        return None
    port = None if match["port"] is None else int(match["port"])
    if port is not None and not 0 < port <= 65535:
        return None
    if match["name"].startswith("["):
        try:
            ipaddress.IPv6Address(match["name"][1:-1])
        except ValueError:
            return None
    return match["name"], port


def is_loopback_name(name: str) -> bool:
    """Whether a host name or address means this machine. No name server is asked."""
    name = name.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_local(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    """Whether the request was made on this machine and for it.

    A page of a foreign site can make a browser ask 127.0.0.1 under the site's own name, and a proxy on this machine
    asks for the whole world: neither is local.
    """
    if any(name in headers for name in _PROXY_HEADERS):
        return False
    client = scope.get("client")
    if client is not None and not is_loopback_name(client[0]):
        return False
    host = headers.get(b"host")
    if host is None:
        return True
    parsed = parse_host(host.decode("latin-1"))
    return parsed is not None and is_loopback_name(parsed[0])


def parse_networks(text: str) -> tuple[Network, ...]:
    """Networks of a comma-separated list; a single address is a network of one. Raises StartupError."""
    found: list[Network] = []
    for entry in text.split(","):
        if name := entry.strip():
            try:
                found.append(ipaddress.ip_network(name, strict=False))
            except ValueError as error:
                raise StartupError(f"AGENTCOM_TRUSTED_PROXIES: {name!r} is no address or network.") from error
    return tuple(found)


def client_address(scope: Scope, headers: Sequence[tuple[bytes, bytes]], *, trusted: Sequence[Network]) -> str | None:
    """The address that a request comes from; None if the server knows none.

    X-Forwarded-For counts only as far as trusted proxies wrote it: read from its end, the first address that is not one
    of theirs is the client's. What stands before that one may be made up.
    """
    client = scope.get("client")
    address = _address(client[0]) if client else None
    if address is None or not _is_in(address, trusted):
        return None if address is None else str(address)
    hops = [
        part for name, value in headers if name == b"x-forwarded-for" for part in value.decode("latin-1").split(",")
    ]
    for hop in reversed(hops):
        found = _address(hop.strip())
        if found is None:
            break
        address = found
        if not _is_in(found, trusted):
            break
    return str(address)


def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def hub_urls(scope: Scope, headers: dict[bytes, bytes], *, public_url: str | None) -> HubUrls:
    """The configured address, else the one that the client used, else the one that the server listens on."""
    if public_url:
        api = public_url.rstrip("/")
        scheme, separator, rest = api.partition("://")
        return HubUrls(api=api, ws=f"{'wss' if scheme.lower() == 'https' else 'ws'}{separator}{rest}/ws")
    scheme = "https" if scope.get("scheme") == "https" else "http"
    parsed = parse_host(headers.get(b"host", b"").decode("latin-1"))
    if parsed is None:
        name, port = scope.get("server") or ("127.0.0.1", None)
        parsed = (f"[{name}]" if ":" in name else name, port)
    authority = f"{parsed[0]}:{parsed[1] or _DEFAULT_PORTS[scheme]}"
    return HubUrls(api=f"{scheme}://{authority}", ws=f"{'wss' if scheme == 'https' else 'ws'}://{authority}/ws")


def is_base_url(value: str) -> bool:
    """Whether a configured public URL is one: http or https, a host, and no query or fragment."""
    parts = urlsplit(value)
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.query and not parts.fragment
