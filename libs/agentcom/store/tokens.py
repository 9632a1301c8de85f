"""Tokens in the store. Only SHA-256 digests are kept: a token that is not written down when it is made is lost."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum

import orjson

from agentcom.errors import AgentExists, TokenExists
from agentcom.store.keys import Keys
from agentcom.store.link import Link
from agentcom.store.replies import as_bytes, as_int, as_list, as_pairs
from agentcom.store.scripts import Scripts

PREFIX_CHARACTERS = 8
LIST_CHUNK = 500


class Role(StrEnum):
    """What the holder of a token may do."""

    AGENT = "agent"  #: its own tasks and mail
    OPERATOR = "operator"  #: everybody's tasks, the configuration, rate limits
    ADMIN = "admin"  #: everything, tokens included


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request comes from."""

    agent_id: str
    role: Role

    @property
    def is_admin(self) -> bool:
        return self.role is Role.ADMIN

    @property
    def is_operator(self) -> bool:
        """Operators may run the hub; admins may do that too."""
        return self.role is not Role.AGENT


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """A stored token, as far as it may be shown. ``prefix`` is the token's first eight characters."""

    agent_id: str
    role: Role
    prefix: str
    created_at: int


def new_token() -> str:
    """64 lowercase hex digits, 256 random bits."""
    return secrets.token_hex(32)


def digest(token: str) -> str:
    """What the store keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def _token_info(stored: bytes) -> TokenInfo:
    record = orjson.loads(stored)
    return TokenInfo(
        agent_id=record["agent_id"],
        role=Role(record["role"]),
        prefix=record["prefix"],
        created_at=record["created_at"],
    )


class TokenStore:
    """Makes, finds and revokes tokens."""

    def __init__(self, scripts: Scripts, link: Link, keys: Keys) -> None:
        self._scripts = scripts
        self._link = link
        self._keys = keys

    async def register(self, agent_id: str, *, role: Role, token: str | None = None) -> str:
        """The first token of an agent id, or a given one, which may be registered for it any number of times.

        Raises :class:`AgentExists`, and :class:`TokenExists` if it is another agent's.
        """
        token = token or new_token()
        reply = await self._scripts.call(
            "token/register", agent_id=agent_id, digest=digest(token), prefix=token[:PREFIX_CHARACTERS], role=role
        )
        if reply.code == "TOKEN_EXISTS":
            raise TokenExists()
        if reply.code != "OK":
            raise AgentExists(agent_id=agent_id)
        return token

    async def mint(self, agent_id: str, *, role: Role, token: str | None = None) -> str:
        """One more token for an agent id, or a given one. Raises :class:`TokenExists` if it is another agent's."""
        token = token or new_token()
        if not await self._mint(agent_id, role=role, token=token, only_if_empty=False):
            raise TokenExists()
        return token

    async def mint_first(self, agent_id: str, *, role: Role, token: str) -> bool:
        """Stores the token if the store has none at all, or this very one. Whether it is stored now."""
        return await self._mint(agent_id, role=role, token=token, only_if_empty=True)

    async def _mint(self, agent_id: str, *, role: Role, token: str, only_if_empty: bool) -> bool:
        reply = await self._scripts.call(
            "token/mint",
            agent_id=agent_id,
            digest=digest(token),
            prefix=token[:PREFIX_CHARACTERS],
            role=role,
            only_if_empty=int(only_if_empty),
        )
        return reply.code == "OK"

    async def revoke(self, agent_id: str) -> int:
        """Revokes all tokens of an agent id and closes its socket. Returns how many there were."""
        return (await self._scripts.call("token/revoke", agent_id=agent_id)).number(0)

    async def find(self, token_digest: str) -> Principal | None:
        """Whose token this is."""
        stored = await self._link.call("HGET", self._keys.tokens(), token_digest)
        if not isinstance(stored, bytes):
            return None
        record = orjson.loads(stored)
        return Principal(agent_id=record["agent_id"], role=Role(record["role"]))

    async def any(self) -> bool:
        """Whether there is a token at all."""
        return as_int(await self._link.call("EXISTS", self._keys.tokens())) == 1

    async def of(self, agent_id: str) -> list[TokenInfo]:
        """The tokens of one agent id, oldest first."""
        digests = as_list(await self._link.call("SMEMBERS", self._keys.agent_tokens(agent_id)))
        if not digests:
            return []
        names = [as_bytes(name) for name in digests]
        stored = as_list(await self._link.call("HMGET", self._keys.tokens(), *names))
        found = [_token_info(record) for record in stored if isinstance(record, bytes)]
        return sorted(found, key=lambda info: info.created_at)

    async def all(self) -> AsyncIterator[TokenInfo]:
        """Every token, in no order; one that is made or revoked meanwhile may or may not be among them."""
        cursor = b"0"
        seen: set[bytes] = set()
        while True:
            reply = as_list(await self._link.call("HSCAN", self._keys.tokens(), cursor, "COUNT", LIST_CHUNK))
            cursor = as_bytes(reply[0])
            for name, stored in as_pairs(reply[1]):
                if name not in seen:
                    seen.add(name)
                    yield _token_info(stored)
            if cursor == b"0":
                return
