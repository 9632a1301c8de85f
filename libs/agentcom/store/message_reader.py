"""Reading the message history and threads, as far as the reader may see them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agentcom.domain.messages import DeliveryState, Message
from agentcom.errors import MessageNotFound
from agentcom.settings import MailLimits
from agentcom.store.channels import Viewer
from agentcom.store.scripts import Reply, Scripts

#: Messages that one script call looks at.
STEPS = 500
#: Messages of one thread.
THREAD_LIMIT = 1_000
_FIELDS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageFilter:
    """Which messages, and which page of them. Times are epoch milliseconds, inclusive.

    ``cursor`` is a message's number: the page begins after it, or before it where ``newest_first``.
    """

    sender: str | None = None
    recipient: str | None = None
    channel: str | None = None
    start_time: int | None = None
    end_time: int | None = None
    cursor: int | None = None
    newest_first: bool = False
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread, oldest message first. ``truncated``: it has more messages than one answer may."""

    root: str
    messages: list[Message]
    truncated: bool


class MessageReader:
    """Finds messages by id, page and thread."""

    def __init__(self, scripts: Scripts, limits: MailLimits) -> None:
        self._scripts = scripts
        self._limits = limits

    async def get(self, message_id: str, *, viewer: Viewer) -> Message:
        """Raises MessageNotFound, also for a message that the viewer may not see."""
        reply = await self._scripts.call("message/get", id=message_id, agent_id=viewer.agent_id, privileged=viewer.flag)
        if reply.code != "OK":
            raise MessageNotFound(message_id=message_id)
        return _message(reply, 0)

    async def page(self, wanted: MessageFilter, *, viewer: Viewer) -> list[Message]:
        """Up to ``limit`` messages. The history is bounded, and so is the number of calls that this takes."""
        found: list[Message] = []
        cursor = "" if wanted.cursor is None else str(wanted.cursor)
        for _ in range(2 + self._limits.message_history_cap // STEPS):
            if len(found) >= wanted.limit:
                break
            reply = await self._scripts.call(
                "message/page",
                agent_id=viewer.agent_id,
                privileged=viewer.flag,
                sender=wanted.sender or "",
                recipient=wanted.recipient or "",
                channel=wanted.channel or "",
                start_time="" if wanted.start_time is None else wanted.start_time,
                end_time="" if wanted.end_time is None else wanted.end_time,
                cursor=cursor,
                order="desc" if wanted.newest_first else "asc",
                limit=wanted.limit - len(found),
                steps=STEPS,
            )
            found += _messages(reply)
            cursor = reply.text(1)
            if reply.number(0) == 1:
                break
        return found

    async def thread(
        self, message_id: str, *, viewer: Viewer, scope: Literal["tree", "replies", "root"] = "tree"
    ) -> Thread:
        """The whole tree a message belongs to, its direct answers, or only the tree's root."""
        reply = await self._scripts.call(
            "message/thread",
            id=message_id,
            agent_id=viewer.agent_id,
            privileged=viewer.flag,
            scope=scope,
            limit=THREAD_LIMIT,
        )
        messages = sorted(_messages(reply), key=lambda message: message.seq)
        return Thread(reply.text(0), messages, reply.number(1) == 1)


def _messages(reply: Reply) -> list[Message]:
    return [_message(reply, start) for start in range(2, len(reply.fields), _FIELDS)]


def _message(reply: Reply, start: int) -> Message:
    return Message(
        id=reply.text(start),
        sender=reply.text(start + 1),
        recipient=reply.text(start + 2) or None,
        channel=reply.text(start + 3) or None,
        type=reply.text(start + 4),
        payload=reply.raw(start + 5),
        reply_to=reply.text(start + 6) or None,
        timestamp=reply.number(start + 7),
        seq=reply.number(start + 8),
        state=DeliveryState(reply.text(start + 9)),
        state_at=reply.number(start + 10),
        reason=reply.text(start + 11) or None,
    )
