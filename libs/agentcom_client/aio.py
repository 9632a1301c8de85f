"""The asynchronous client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar

import httpx

from agentcom_client import calls
from agentcom_client.calls import TRY_LATER, Call, answer
from agentcom_client.errors import HubUnreachable, WaitTimeout
from agentcom_client.events import agent_events
from agentcom_client.types import FINISHED, Agent, Channel, Frame, Message, Post, Task, TaskPage, TokenEntry

T = TypeVar("T")

#: A request that may be repeated is tried so often; the pause doubles, or is what the hub says.
ATTEMPTS: Final = 4
FIRST_PAUSE_S: Final = 0.2
POLL_FIRST_S: Final = 0.1
POLL_LAST_S: Final = 2.0


class AsyncClient:
    """A hub, as the holder of a token. Use it as a context manager."""

    def __init__(self, url: str, *, token: str | None = None, timeout: float = 30.0) -> None:
        """``timeout`` in seconds, for one attempt."""
        self._url = url.rstrip("/")
        self._token = token
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._http = httpx.AsyncClient(base_url=self._url, headers=headers, timeout=timeout)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def _ask(self, call: Call[T]) -> T:
        pause = FIRST_PAUSE_S
        for attempt in range(1, ATTEMPTS + 1):
            last = attempt == ATTEMPTS or not call.repeatable
            try:
                response = await self._http.request(call.method, call.path, json=call.body, params=call.query)
            except httpx.TransportError as error:
                if last:
                    raise HubUnreachable(
                        f"{self._url} does not answer: {str(error) or type(error).__name__}"
                    ) from error
            else:
                if last or response.status_code not in TRY_LATER:
                    return answer(call, response.status_code, _body(response))
                pause = max(pause, float(response.headers.get("retry-after", 0)))
            await asyncio.sleep(pause)
            pause *= 2
        raise HubUnreachable(f"{self._url} does not answer.")

    async def wait(self, task_id: str, *, timeout: float | None = None) -> Task:
        """The task, once it is completed, cancelled or a dead letter. Raises WaitTimeout after so many seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = POLL_FIRST_S
        while True:
            task = await self.task(task_id)
            if task["status"] in FINISHED:
                return task
            left = pause if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeout(f"{task_id} is {task['status']} after {timeout} s.")
            await asyncio.sleep(min(pause, left))
            pause = min(POLL_LAST_S, pause * 1.5)

    async def submit(self, description: str, **fields: Any) -> str:
        """Submits a task and returns its id. ``fields`` are those of ``POST /api/tasks``."""
        return await self._ask(calls.submit(description, fields))

    async def task(self, task_id: str) -> Task:
        """One task."""
        return await self._ask(calls.task(task_id))

    async def tasks(
        self,
        *,
        status: str | None = None,
        priority: str | None = None,
        assigned_to: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> TaskPage:
        """A page of tasks; without ``status`` all but the dead letters."""
        return await self._ask(
            calls.tasks(status=status, priority=priority, assigned_to=assigned_to, limit=limit, cursor=cursor)
        )

    async def cancel(self, task_id: str, *, reason: str | None = None) -> str:
        """``cancelled``, or ``cancelling`` while its agent is asked to stop."""
        return await self._ask(calls.cancel(task_id, reason))

    async def retry(self, task_id: str) -> None:
        """Queues a dead letter again."""
        await self._ask(calls.retry(task_id))

    async def agents(self) -> list[Agent]:
        """Connected agents."""
        return await self._ask(calls.agents())

    async def send(
        self, payload: Mapping[str, Any], *, to: str | None = None, kind: str | None = None, reply_to: str | None = None
    ) -> str:
        """Sends a message, to everybody without ``to``; returns its id."""
        return await self._ask(calls.send(payload, to=to, kind=kind, reply_to=reply_to))

    async def messages(
        self, *, cursor: int | None = None, limit: int | None = None, newest_first: bool = False
    ) -> list[Message]:
        """One's own messages in the history; admins see all."""
        return await self._ask(calls.messages(cursor=cursor, limit=limit, newest_first=newest_first))

    async def mailbox(self, agent_id: str, *, since: int | None = None) -> list[Message]:
        """What waits in one's own mailbox."""
        return await self._ask(calls.mailbox(agent_id, since=since))

    async def ack(self, agent_id: str, seq: int) -> None:
        """Takes mail up to a number out of the mailbox."""
        await self._ask(calls.ack(agent_id, seq))

    async def channels(self) -> list[Channel]:
        """All channels that one may see."""
        return await self._ask(calls.channels())

    async def create_channel(
        self, name: str, *, description: str | None = None, members: Sequence[str] | None = None
    ) -> str:
        """Makes a channel, private if it has members; returns its name."""
        return await self._ask(calls.create_channel(name, description=description, members=members))

    async def subscribe(self, channel: str) -> None:
        """Subscribes to a channel."""
        await self._ask(calls.channel_change(channel, "subscribe"))

    async def unsubscribe(self, channel: str) -> None:
        """Ends a subscription."""
        await self._ask(calls.channel_change(channel, "unsubscribe"))

    async def publish(
        self, channel: str, payload: Mapping[str, Any], *, kind: str | None = None, reply_to: str | None = None
    ) -> int:
        """Publishes on a channel; returns the post's number."""
        return await self._ask(calls.publish(channel, payload, kind=kind, reply_to=reply_to))

    async def channel_history(self, channel: str, *, since: int | None = None, limit: int | None = None) -> list[Post]:
        """What was published, oldest first."""
        return await self._ask(calls.channel_history(channel, since=since, limit=limit))

    async def tokens(self) -> list[TokenEntry]:
        """All tokens for an admin, else one's own."""
        return await self._ask(calls.tokens())

    async def create_token(self, agent_id: str, *, role: str | None = None) -> str:
        """One more token."""
        return await self._ask(calls.create_token(agent_id, role))

    async def revoke_tokens(self, agent_id: str) -> int:
        """Revokes all tokens of an agent; returns how many there were."""
        return await self._ask(calls.revoke_tokens(agent_id))

    async def config(self, name: str) -> dict[str, Any]:
        """A setting by the name in its path, such as ``default-repo``."""
        return await self._ask(calls.config(name))

    async def set_config(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Changes a setting."""
        return await self._ask(calls.set_config(name, values))

    def events(self, agent_id: str, *, presence: bool = False, **identify: Any) -> AsyncIterator[Frame]:
        """What the hub pushes to this agent, until the socket ends: messages, posts, assignments, presence if asked.

        ``identify`` are further fields of the identify frame, such as ``capabilities``. The agent counts as connected.
        """
        return agent_events(self._url, agent_id, self._token or "", presence=presence, fields=identify)


def _body(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
