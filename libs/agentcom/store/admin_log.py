"""What operators and admins did: who, what and when, newest first."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Final

from agentcom.errors import InvalidCursor
from agentcom.store.keys import Keys
from agentcom.store.link import Link
from agentcom.store.replies import as_bytes, as_list, as_pairs
from agentcom.store.scripts import Scripts

_CURSOR: Final = re.compile(r"\d{1,16}-\d{1,16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminAction:
    """One thing that was done. ``action`` is a method and a path template; ``target`` and ``body`` are JSON objects."""

    actor: str
    role: str
    action: str
    target: bytes
    body: bytes
    remote: str
    request_id: str


@dataclass(frozen=True, slots=True)
class LoggedAction:
    """A recorded action. ``at`` is epoch milliseconds of the store's clock."""

    at: int
    action: AdminAction


@dataclass(frozen=True, slots=True)
class AdminLogPage:
    """Newest first. With a cursor there are older ones."""

    actions: list[LoggedAction]
    cursor: str | None


class AdminLog:
    """Writes and reads the log. The store keeps about the newest 10,000 actions."""

    def __init__(self, scripts: Scripts, link: Link, keys: Keys) -> None:
        self._scripts = scripts
        self._link = link
        self._keys = keys

    async def record(self, action: AdminAction) -> None:
        """Keeps one action."""
        await self._scripts.call(
            "admin/record",
            id=secrets.token_hex(8),
            actor=action.actor,
            role=action.role,
            action=action.action,
            target=action.target,
            body=action.body,
            remote=action.remote,
            request_id=action.request_id,
        )

    async def page(self, *, cursor: str | None, limit: int) -> AdminLogPage:
        """The newest actions, or those before ``cursor``. Raises :class:`InvalidCursor`."""
        if cursor is not None and _CURSOR.fullmatch(cursor) is None:
            raise InvalidCursor
        newest = "+" if cursor is None else f"({cursor}"
        reply = as_list(
            await self._link.call("XREVRANGE", self._keys.admin_log(), newest, "-", "COUNT", limit + 1),
        )
        entries = [as_list(entry) for entry in reply]
        page = entries[:limit]
        actions = [_logged({name.decode(): value for name, value in as_pairs(fields)}) for _, fields in page]
        return AdminLogPage(actions, as_bytes(page[-1][0]).decode() if len(entries) > limit else None)


def _logged(fields: dict[str, bytes]) -> LoggedAction:
    action = AdminAction(
        actor=fields["actor"].decode(),
        role=fields["role"].decode(),
        action=fields["action"].decode(),
        target=fields["target"],
        body=fields["body"],
        remote=fields["remote"].decode(),
        request_id=fields["request_id"].decode(),
    )
    return LoggedAction(int(fields["at"]), action)
