"""Whose token it is: a short memory in front of the store, which a revocation clears at once."""

from __future__ import annotations

import time
from enum import Enum, auto
from typing import Final, Protocol

from agentcom.settings import SECOND, Settings
from agentcom.store.admin_log import AdminLog
from agentcom.store.gateways import GatewayStore
from agentcom.store.tokens import Principal, TokenStore, digest
from services.api.addresses import is_local
from services.api.errors import AdminOnly, OperatorOnly, Unauthorized
from services.api.limits import RequestLimits
from services.api.request import ApiRequest
from services.outage import Outage
from services.store_listener import StoreListener

MAX_REMEMBERED: Final = 10_000
MAX_TOKEN_LENGTH: Final = 512
_SCHEME: Final = "bearer"


class Access(Enum):
    """Who may use a route."""

    OPEN = auto()  #: everybody
    LOCAL = auto()  #: everybody while the hub listens on loopback or reads are public, else any token
    TOKEN = auto()  #: any token
    OPERATOR = auto()  #: the token of an operator or admin
    ADMIN = auto()  #: the token of an admin


class TokenFinder(Protocol):
    """What the memory stands in front of."""

    async def find(self, token_digest: str) -> Principal | None: ...


class Authenticator:
    """Finds out whose token it is.

    A found token is remembered for ``ttl_ms``, but only while revocations are heard of (``trust`` to ``distrust``), and
    never if one was heard while the token was being looked up: the answer may be from before it.
    """

    def __init__(self, tokens: TokenFinder, *, ttl_ms: int, max_entries: int = MAX_REMEMBERED) -> None:
        self._tokens = tokens
        self._ttl = ttl_ms / SECOND
        self._max_entries = max_entries
        self._remembered: dict[str, tuple[Principal, float]] = {}
        self._trusted = False
        self._revocations = 0

    async def find(self, token: str) -> Principal | None:
        """Whose token this is, or None."""
        if not token or len(token) > MAX_TOKEN_LENGTH:
            return None
        token_digest = digest(token)
        known = self._remembered.get(token_digest)
        if known is not None:
            if known[1] > time.monotonic():
                return known[0]
            del self._remembered[token_digest]
        revocations = self._revocations
        principal = await self._tokens.find(token_digest)
        if principal is not None and self._trusted and self._revocations == revocations:
            while len(self._remembered) >= self._max_entries:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[token_digest] = (principal, time.monotonic() + self._ttl)
        return principal

    def forget(self, agent_id: str) -> None:
        """The agent's tokens were revoked."""
        self._revocations += 1
        for token_digest in [name for name, (known, _) in self._remembered.items() if known.agent_id == agent_id]:
            del self._remembered[token_digest]

    def clear(self) -> None:
        """Forgets everything; tokens are looked up anew."""
        self._revocations += 1
        self._remembered.clear()

    def trust(self) -> None:
        """Revocations are heard of from now on; earlier ones may have been missed."""
        self._revocations += 1
        self._remembered.clear()
        self._trusted = True

    def distrust(self) -> None:
        """Revocations are not heard of any more."""
        self._trusted = False
        self._remembered.clear()


class RevocationListener(StoreListener):
    """Tells an Authenticator of every revocation, whichever process it was made in."""

    def __init__(self, gateways: GatewayStore, authenticator: Authenticator) -> None:
        super().__init__("revocations", max_silence=15.0)
        self._gateways = gateways
        self._authenticator = authenticator

    def lost(self) -> None:
        self._authenticator.distrust()

    async def listen(self, outage: Outage) -> None:
        async for notice in self._gateways.listen(["revoked"]):
            if notice.channel == "subscribed":
                outage.over()
                self._authenticator.trust()
                self.touch()
            else:
                self._authenticator.forget(notice.data.decode())


class Gate:
    """Lets requests in by their route's :class:`Access`."""

    def __init__(
        self, authenticator: Authenticator, settings: Settings, *, limits: RequestLimits, admin_log: AdminLog
    ) -> None:
        self.limits = limits
        self.admin_log = admin_log
        self._authenticator = authenticator
        self._open_locally = settings.listens_on_loopback
        self._public_reads = settings.public_reads

    async def admit(self, request: ApiRequest, access: Access) -> Principal | None:
        """Who asks, or None if the route does not need to know. Raises Unauthorized, OperatorOnly or AdminOnly."""
        match access:
            case Access.OPEN:
                return None
            case Access.LOCAL if self._public_reads or self.is_local(request):
                return None
        principal = await self.identify(request)
        if principal is None:
            raise Unauthorized
        match access:
            case Access.LOCAL | Access.TOKEN:
                return principal
            case Access.OPERATOR if not principal.is_operator:
                raise OperatorOnly
            case Access.ADMIN if not principal.is_admin:
                raise AdminOnly
        return principal

    async def identify(self, request: ApiRequest) -> Principal | None:
        """Whose token came with the request; None without one. Raises Unauthorized for one that is not valid."""
        value = request.headers.get(b"authorization")
        if value is None:
            return None
        scheme, _, token = value.decode("latin-1").partition(" ")
        if scheme.lower() != _SCHEME:
            raise Unauthorized("The Authorization header must be: Bearer <token>")
        principal = await self._authenticator.find(token.strip())
        if principal is None:
            raise Unauthorized("This token is not valid, or was revoked.")
        return principal

    def is_local(self, request: ApiRequest) -> bool:
        """Whether the hub is for this machine only, and the request was made on it."""
        return self._open_locally and is_local(request.scope, request.headers)


def authenticator_for(tokens: TokenStore, settings: Settings) -> Authenticator:
    """The authenticator that the settings ask for."""
    return Authenticator(tokens, ttl_ms=settings.auth_cache_ttl_ms)
