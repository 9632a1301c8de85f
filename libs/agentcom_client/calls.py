"""Every request as data: how it is asked, and how its answer is read. Shared by both clients; does no I/O."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from agentcom_client.errors import HubError, HubUnreachable
from agentcom_client.types import Agent, Channel, Message, Post, Task, TaskPage, TokenEntry

T = TypeVar("T")

#: Answers that say: the same request may succeed later.
TRY_LATER = frozenset({429, 503})


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request. ``repeatable``: doing it twice does no more than doing it once."""

    method: str
    path: str
    read: Callable[[Any], T]
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False


def answer(call: Call[T], status: int, body: Any) -> T:
    """Raises HubError for a refusal, HubUnreachable for what is no answer of a hub."""
    if status >= 400:
        details = dict(body) if isinstance(body, dict) else {}
        code, message = details.pop("error", f"http_{status}"), details.pop("message", "")
        raise HubError(status, str(code), str(message), details)
    try:
        return call.read(body)
    except (KeyError, TypeError) as error:
        raise HubUnreachable("The answer is not one that a hub gives; is the address right?") from error


def _whole(body: Any) -> Any:
    return body


def _segment(text: str) -> str:
    return quote(text, safe="")


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _query(**values: Any) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


# -- tasks -------------------------------------------------------------------------------------------------------------


def submit(description: str, fields: Mapping[str, Any]) -> Call[str]:
    body = {"idempotency_key": secrets.token_hex(16), **fields, "description": description}
    return Call(method="POST", path="/api/tasks", body=body, read=lambda got: str(got["task_id"]), repeatable=True)


def task(task_id: str) -> Call[Task]:
    return Call(method="GET", path=f"/api/tasks/{_segment(task_id)}", read=_whole, repeatable=True)


def tasks(
    *, status: str | None, priority: str | None, assigned_to: str | None, limit: int | None, cursor: str | None
) -> Call[TaskPage]:
    """Dead letters have a list of their own."""
    path = "/api/tasks/dead-letter" if status == "dead_letter" else "/api/tasks"
    chosen = None if status == "dead_letter" else status
    query = _query(status=chosen, priority=priority, assigned_to=assigned_to, limit=limit, cursor=cursor)
    return Call(method="GET", path=path, query=query, read=_whole, repeatable=True)


def cancel(task_id: str, reason: str | None) -> Call[str]:
    path = f"/api/tasks/{_segment(task_id)}/cancel"
    return Call(method="POST", path=path, body=_given(reason=reason), read=lambda got: str(got["status"]))


def retry(task_id: str) -> Call[None]:
    return Call(method="POST", path=f"/api/tasks/{_segment(task_id)}/retry", body={}, read=lambda _: None)


# -- agents ------------------------------------------------------------------------------------------------------------


def agents() -> Call[list[Agent]]:
    return Call(method="GET", path="/api/agents", read=lambda got: list(got["agents"]), repeatable=True)


# -- messages and channels ---------------------------------------------------------------------------------------------


def send(payload: Mapping[str, Any], *, to: str | None, kind: str | None, reply_to: str | None) -> Call[str]:
    body = {
        "message_id": f"c-{secrets.token_hex(12)}",
        "payload": dict(payload),
        **_given(to=to, type=kind, reply_to=reply_to),
    }
    return Call(method="POST", path="/api/message", body=body, read=lambda got: str(got["id"]), repeatable=True)


def messages(*, cursor: int | None, limit: int | None, newest_first: bool) -> Call[list[Message]]:
    query = _query(cursor=cursor, limit=limit, order="desc" if newest_first else None)
    return Call(
        method="GET", path="/api/messages", query=query, read=lambda got: list(got["messages"]), repeatable=True
    )


def mailbox(agent_id: str, *, since: int | None) -> Call[list[Message]]:
    path = f"/api/mailbox/{_segment(agent_id)}"
    query = _query(since=since)
    return Call(method="GET", path=path, query=query, read=lambda got: list(got["messages"]), repeatable=True)


def ack(agent_id: str, seq: int) -> Call[None]:
    path = f"/api/mailbox/{_segment(agent_id)}/ack"
    return Call(method="POST", path=path, body={"seq": seq}, read=lambda _: None, repeatable=True)


def channels() -> Call[list[Channel]]:
    return Call(method="GET", path="/api/channels", read=lambda got: list(got["channels"]), repeatable=True)


def create_channel(name: str, *, description: str | None, members: Sequence[str] | None) -> Call[str]:
    body = _given(name=name, description=description, members=list(members) if members else None)
    return Call(method="POST", path="/api/channels", body=body, read=lambda got: str(got["name"]))


def channel_change(name: str, change: str) -> Call[None]:
    """``change`` is subscribe or unsubscribe."""
    path = f"/api/channels/{_segment(name)}/{change}"
    return Call(method="POST", path=path, body={}, read=lambda _: None, repeatable=True)


def publish(name: str, payload: Mapping[str, Any], *, kind: str | None, reply_to: str | None) -> Call[int]:
    body = {
        "message_id": f"c-{secrets.token_hex(12)}",
        "payload": dict(payload),
        **_given(type=kind, reply_to=reply_to),
    }
    path = f"/api/channels/{_segment(name)}/publish"
    return Call(method="POST", path=path, body=body, read=lambda got: int(got["seq"]), repeatable=True)


def channel_history(name: str, *, since: int | None, limit: int | None) -> Call[list[Post]]:
    path = f"/api/channels/{_segment(name)}/history"
    query = _query(since=since, limit=limit)
    return Call(method="GET", path=path, query=query, read=lambda got: list(got["messages"]), repeatable=True)


# -- administration ----------------------------------------------------------------------------------------------------


def tokens() -> Call[list[TokenEntry]]:
    return Call(method="GET", path="/admin/tokens", read=lambda got: list(got["tokens"]), repeatable=True)


def create_token(agent_id: str, role: str | None) -> Call[str]:
    body = _given(agent_id=agent_id, role=role)
    return Call(method="POST", path="/admin/tokens", body=body, read=lambda got: str(got["token"]))


def revoke_tokens(agent_id: str) -> Call[int]:
    path = f"/admin/tokens/{_segment(agent_id)}"
    return Call(method="DELETE", path=path, read=lambda got: int(got["revoked"]), repeatable=True)


def config(name: str) -> Call[dict[str, Any]]:
    return Call(method="GET", path=f"/api/config/{_segment(name)}", read=dict, repeatable=True)


def set_config(name: str, values: Mapping[str, Any]) -> Call[dict[str, Any]]:
    return Call(method="PUT", path=f"/api/config/{_segment(name)}", body=values, read=dict, repeatable=True)
