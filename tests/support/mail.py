"""Messages as most tests want them."""

from __future__ import annotations

import json
import secrets
from typing import Any

from agentcom.domain.messages import NewMessage
from agentcom.store.channels import Viewer
from agentcom.store.store import Store
from tests.support.builders import a_token
from tests.support.clock import T0
from tests.support.snapshot import Changes

#: The number of the first message of a test whose clock stands still.
SEQ = T0 * 1_000
#: For whose eyes: nobody in particular, and an admin.
NOBODY, ADMIN = Viewer(), Viewer("root", privileged=True)


def a_message(message_id: str | None = None, sender: str = "a1", **fields: Any) -> NewMessage:
    """A message; fields as in :class:`NewMessage`."""
    defaults: dict[str, Any] = {
        "id": message_id or secrets.token_hex(8),
        "sender": sender,
        "type": "chat",
        "payload": b'{"text":"hi"}',
        "reply_to": None,
    }
    return NewMessage(**(defaults | fields))


async def registered(store: Store, *agent_ids: str) -> None:
    """Agents that exist and are not connected."""
    for agent_id in agent_ids:
        await a_token(store, agent_id)


async def ids_in_mailbox(store: Store, agent_id: str, since: int = 0) -> list[str]:
    """What an agent finds when it polls."""
    return [json.loads(mail.envelope)["id"] for mail in await store.mail.poll(agent_id, since=since)]


async def state_of(store: Store, message_id: str) -> tuple[str, str | None]:
    """A message's delivery state and the reason for it."""
    message = await store.messages.get(message_id, viewer=ADMIN)
    return message.state.value, message.reason


def entry(message_id: str, **fields: object) -> str:
    """A message as it lies in a mailbox."""
    envelope = {"id": message_id, "from": "a1", "to": "a2", "type": "chat", "payload": {"text": "hi"}, "reply_to": None}
    return json.dumps(envelope | {"timestamp": T0} | fields, separators=(",", ":"))


def without_counters(changed: Changes) -> Changes:
    """Counters by the hour have tests of their own."""
    return {name: value for name, value in changed.items() if not name.startswith("stats:")}
