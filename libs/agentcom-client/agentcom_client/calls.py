"""Every request as data: how it is asked, and how its answer is read. Does no I/O.

These are the methods of both clients, which take their signatures and docstrings from here.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from agentcom_client.types import (
    Agent,
    AgentState,
    Channel,
    DeliveredMessage,
    Health,
    Message,
    Post,
    Published,
    Registration,
    Submission,
    Task,
    TaskPage,
    TokenEntry,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """One request.

    ``repeatable``: doing it twice does no more than doing it once. ``any_status``: an answer with an error's status is
    read like any other, if it is JSON.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    body: Mapping[str, Any] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = False
    any_status: bool = False


def _whole(body: Any) -> Any:
    return body


def _with(key: str) -> Callable[[Any], Any]:
    """The whole answer. One without this key is none: reading it raises KeyError."""

    def read(body: Any) -> Any:
        body[key]
        return body

    return read


def _segment(text: str) -> str:
    return quote(text, safe="")


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _key() -> str:
    return secrets.token_hex(12)


def _query(**values: Any) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


# -- tasks -------------------------------------------------------------------------------------------------------------


def submit(description: str, **fields: Any) -> Call[str]:
    """Submits a task and returns its id. ``fields`` are those of ``POST /api/tasks``."""
    return _submission(description, fields, read=lambda got: str(got["task_id"]))


def submit_task(description: str, **fields: Any) -> Call[Submission]:
    """The same; returns all that the hub says."""
    return _submission(description, fields, read=_with("task_id"))


def _submission(description: str, fields: Mapping[str, Any], *, read: Callable[[Any], T]) -> Call[T]:
    body = {"idempotency_key": _key(), **fields, "description": description}
    return Call(method="POST", path="/api/tasks", body=body, read=read, repeatable=True)


def submit_many(tasks: Sequence[Mapping[str, Any]]) -> Call[list[Submission]]:
    """Submits up to 1,000 tasks, each with the fields of ``POST /api/tasks``; either all of them or none."""
    body = {"tasks": [{"idempotency_key": _key(), **task} for task in tasks]}
    return Call(
        method="POST", path="/api/tasks/bulk", body=body, read=lambda got: list(got["results"]), repeatable=True
    )


def task(task_id: str) -> Call[Task]:
    """One task."""
    return Call(method="GET", path=f"/api/tasks/{_segment(task_id)}", read=_with("status"), repeatable=True)


def tasks(
    *,
    status: str | None = None,
    priority: str | None = None,
    assigned_to: str | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Call[TaskPage]:
    """A page of tasks; dead letters only with ``status="dead_letter"``."""
    path = "/api/tasks/dead-letter" if status == "dead_letter" else "/api/tasks"
    chosen = None if status == "dead_letter" else status
    query = _query(status=chosen, priority=priority, assigned_to=assigned_to, limit=limit, cursor=cursor)
    return Call(method="GET", path=path, query=query, read=_whole, repeatable=True)


def cancel(task_id: str, *, reason: str | None = None) -> Call[str]:
    """Ends a task: ``cancelled``, or ``cancelling`` while its agent is asked to stop."""
    path = f"/api/tasks/{_segment(task_id)}/cancel"
    return Call(method="POST", path=path, body=_given(reason=reason), read=lambda got: str(got["status"]))


def retry(task_id: str) -> Call[None]:
    """Queues a dead letter again."""
    return Call(method="POST", path=f"/api/tasks/{_segment(task_id)}/retry", body={}, read=lambda _: None)


# -- agents ------------------------------------------------------------------------------------------------------------


def register(agent_id: str, *, enrolment_key: str | None = None, token: str | None = None) -> Call[Registration]:
    """Registers an agent id; the answer has its token, which is not shown again.

    ``token``: the one to be given out, 64 hexadecimal digits; whoever keeps it may register again if no answer comes.
    """
    body = _given(agent_id=agent_id, enrolment_key=enrolment_key, token=token or secrets.token_hex(32))
    return Call(method="POST", path="/api/onboard/register", body=body, read=_with("token"), repeatable=True)


def agents() -> Call[list[Agent]]:
    """Connected agents."""
    return Call(method="GET", path="/api/agents", read=lambda got: list(got["agents"]), repeatable=True)


def agent_states() -> Call[list[AgentState]]:
    """What connected agents are doing."""
    return Call(method="GET", path="/api/agents/states", read=lambda got: list(got["agents"]), repeatable=True)


def agent_state(agent_id: str) -> Call[AgentState]:
    """What one connected agent is doing."""
    return Call(method="GET", path=f"/api/agents/{_segment(agent_id)}/state", read=_whole, repeatable=True)


# -- messages and channels ---------------------------------------------------------------------------------------------


def send(
    payload: Mapping[str, Any], *, to: str | None = None, kind: str | None = None, reply_to: str | None = None
) -> Call[str]:
    """Sends a message, to everybody without ``to``; returns its id."""
    body = {"message_id": f"c-{_key()}", "payload": dict(payload), **_given(to=to, type=kind, reply_to=reply_to)}
    return Call(method="POST", path="/api/message", body=body, read=lambda got: str(got["id"]), repeatable=True)


def message(message_id: str) -> Call[DeliveredMessage]:
    """One message and what became of it."""
    return Call(method="GET", path=f"/api/messages/{_segment(message_id)}", read=_whole, repeatable=True)


def messages(*, cursor: int | None = None, limit: int | None = None, newest_first: bool = False) -> Call[list[Message]]:
    """One's own messages in the history; admins see all."""
    query = _query(cursor=cursor, limit=limit, order="desc" if newest_first else None)
    return Call(
        method="GET", path="/api/messages", query=query, read=lambda got: list(got["messages"]), repeatable=True
    )


def mailbox(agent_id: str, *, since: int | None = None) -> Call[list[Message]]:
    """What waits in one's own mailbox."""
    path = f"/api/mailbox/{_segment(agent_id)}"
    query = _query(since=since)
    return Call(method="GET", path=path, query=query, read=lambda got: list(got["messages"]), repeatable=True)


def ack(agent_id: str, seq: int) -> Call[None]:
    """Takes mail up to a number out of the mailbox."""
    path = f"/api/mailbox/{_segment(agent_id)}/ack"
    return Call(method="POST", path=path, body={"seq": seq}, read=lambda _: None, repeatable=True)


def channels() -> Call[list[Channel]]:
    """All channels that one may see."""
    return Call(method="GET", path="/api/channels", read=lambda got: list(got["channels"]), repeatable=True)


def create_channel(name: str, *, description: str | None = None, members: Sequence[str] | None = None) -> Call[str]:
    """Makes a channel, private if it has members; returns its name."""
    body = _given(name=name, description=description, members=list(members) if members else None)
    return Call(method="POST", path="/api/channels", body=body, read=lambda got: str(got["name"]))


def delete_channel(channel: str) -> Call[None]:
    """Deletes a channel that one has made."""
    return Call(method="DELETE", path=f"/api/channels/{_segment(channel)}", read=lambda _: None)


def subscribe(channel: str) -> Call[None]:
    """Subscribes to a channel."""
    path = f"/api/channels/{_segment(channel)}/subscribe"
    return Call(method="POST", path=path, body={}, read=lambda _: None, repeatable=True)


def unsubscribe(channel: str) -> Call[None]:
    """Ends a subscription."""
    path = f"/api/channels/{_segment(channel)}/unsubscribe"
    return Call(method="POST", path=path, body={}, read=lambda _: None, repeatable=True)


def publish(
    channel: str, payload: Mapping[str, Any], *, kind: str | None = None, reply_to: str | None = None
) -> Call[Published]:
    """Publishes on a channel."""
    body = {"message_id": f"c-{_key()}", "payload": dict(payload), **_given(type=kind, reply_to=reply_to)}
    path = f"/api/channels/{_segment(channel)}/publish"
    return Call(method="POST", path=path, body=body, read=_whole, repeatable=True)


def channel_history(channel: str, *, since: int | None = None, limit: int | None = None) -> Call[list[Post]]:
    """What was published, oldest first."""
    path = f"/api/channels/{_segment(channel)}/history"
    query = _query(since=since, limit=limit)
    return Call(method="GET", path=path, query=query, read=lambda got: list(got["messages"]), repeatable=True)


# -- the hub ----------------------------------------------------------------------------------------------------------


def health() -> Call[Health]:
    """How the hub is; one that cannot reach its store says so."""
    return Call(method="GET", path="/health", read=_with("status"), repeatable=True, any_status=True)


def ready() -> Call[None]:
    """Whether the hub can do its work now: raises HubError if not."""
    return Call(method="GET", path="/health/ready", read=lambda _: None)


# -- administration ----------------------------------------------------------------------------------------------------


def tokens() -> Call[list[TokenEntry]]:
    """All tokens for an admin, else one's own."""
    return Call(method="GET", path="/admin/tokens", read=lambda got: list(got["tokens"]), repeatable=True)


def create_token(agent_id: str, *, role: str | None = None) -> Call[str]:
    """Makes one more token and returns it."""
    body = _given(agent_id=agent_id, role=role)
    return Call(method="POST", path="/admin/tokens", body=body, read=lambda got: str(got["token"]))


def revoke_tokens(agent_id: str) -> Call[int | None]:
    """Revokes all tokens of an agent; returns how many there were, None if the hub does not count them."""
    path = f"/admin/tokens/{_segment(agent_id)}"
    return Call(method="DELETE", path=path, read=lambda got: got.get("revoked"), repeatable=True)


def config(name: str) -> Call[dict[str, Any]]:
    """A setting by the name in its path, such as ``default-repo``."""
    return Call(method="GET", path=f"/api/config/{_segment(name)}", read=dict, repeatable=True)


def set_config(name: str, values: Mapping[str, Any]) -> Call[dict[str, Any]]:
    """Changes a setting."""
    return Call(method="PUT", path=f"/api/config/{_segment(name)}", body=values, read=dict, repeatable=True)
