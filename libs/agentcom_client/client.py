"""The synchronous client."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar

import httpx

from agentcom_client import calls
from agentcom_client.calls import TRY_LATER, Call, answer
from agentcom_client.errors import HubUnreachable, WaitTimeout
from agentcom_client.types import FINISHED, Agent, Channel, Message, Post, Task, TaskPage, TokenEntry

T = TypeVar("T")

#: A request that may be repeated is tried so often; the pause doubles, or is what the hub says.
ATTEMPTS: Final = 4
FIRST_PAUSE_S: Final = 0.2
POLL_FIRST_S: Final = 0.1
POLL_LAST_S: Final = 2.0


class Client:
    """A hub, as the holder of a token. Use it as a context manager."""

    def __init__(self, url: str, *, token: str | None = None, timeout: float = 30.0) -> None:
        """``timeout`` in seconds, for one attempt."""
        self._url = url.rstrip("/")
        self._token = token
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=self._url, headers=headers, timeout=timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def _ask(self, call: Call[T]) -> T:
        pause = FIRST_PAUSE_S
        for attempt in range(1, ATTEMPTS + 1):
            last = attempt == ATTEMPTS or not call.repeatable
            try:
                response = self._http.request(call.method, call.path, json=call.body, params=call.query)
            except httpx.TransportError as error:
                if last:
                    raise HubUnreachable(
                        f"{self._url} does not answer: {str(error) or type(error).__name__}"
                    ) from error
            else:
                if last or response.status_code not in TRY_LATER:
                    return answer(call, response.status_code, _body(response))
                pause = max(pause, float(response.headers.get("retry-after", 0)))
            time.sleep(pause)
            pause *= 2
        raise HubUnreachable(f"{self._url} does not answer.")

    def wait(self, task_id: str, *, timeout: float | None = None) -> Task:
        """The task, once it is completed, cancelled or a dead letter. Raises WaitTimeout after so many seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = POLL_FIRST_S
        while True:
            task = self.task(task_id)
            if task["status"] in FINISHED:
                return task
            left = pause if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeout(f"{task_id} is {task['status']} after {timeout} s.")
            time.sleep(min(pause, left))
            pause = min(POLL_LAST_S, pause * 1.5)

    def submit(self, description: str, **fields: Any) -> str:
        """Submits a task and returns its id. ``fields`` are those of ``POST /api/tasks``."""
        return self._ask(calls.submit(description, fields))

    def task(self, task_id: str) -> Task:
        """One task."""
        return self._ask(calls.task(task_id))

    def tasks(
        self,
        *,
        status: str | None = None,
        priority: str | None = None,
        assigned_to: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> TaskPage:
        """A page of tasks; without ``status`` all but the dead letters."""
        return self._ask(
            calls.tasks(status=status, priority=priority, assigned_to=assigned_to, limit=limit, cursor=cursor)
        )

    def cancel(self, task_id: str, *, reason: str | None = None) -> str:
        """``cancelled``, or ``cancelling`` while its agent is asked to stop."""
        return self._ask(calls.cancel(task_id, reason))

    def retry(self, task_id: str) -> None:
        """Queues a dead letter again."""
        self._ask(calls.retry(task_id))

    def agents(self) -> list[Agent]:
        """Connected agents."""
        return self._ask(calls.agents())

    def send(
        self, payload: Mapping[str, Any], *, to: str | None = None, kind: str | None = None, reply_to: str | None = None
    ) -> str:
        """Sends a message, to everybody without ``to``; returns its id."""
        return self._ask(calls.send(payload, to=to, kind=kind, reply_to=reply_to))

    def messages(
        self, *, cursor: int | None = None, limit: int | None = None, newest_first: bool = False
    ) -> list[Message]:
        """One's own messages in the history; admins see all."""
        return self._ask(calls.messages(cursor=cursor, limit=limit, newest_first=newest_first))

    def mailbox(self, agent_id: str, *, since: int | None = None) -> list[Message]:
        """What waits in one's own mailbox."""
        return self._ask(calls.mailbox(agent_id, since=since))

    def ack(self, agent_id: str, seq: int) -> None:
        """Takes mail up to a number out of the mailbox."""
        self._ask(calls.ack(agent_id, seq))

    def channels(self) -> list[Channel]:
        """All channels that one may see."""
        return self._ask(calls.channels())

    def create_channel(self, name: str, *, description: str | None = None, members: Sequence[str] | None = None) -> str:
        """Makes a channel, private if it has members; returns its name."""
        return self._ask(calls.create_channel(name, description=description, members=members))

    def subscribe(self, channel: str) -> None:
        """Subscribes to a channel."""
        self._ask(calls.channel_change(channel, "subscribe"))

    def unsubscribe(self, channel: str) -> None:
        """Ends a subscription."""
        self._ask(calls.channel_change(channel, "unsubscribe"))

    def publish(
        self, channel: str, payload: Mapping[str, Any], *, kind: str | None = None, reply_to: str | None = None
    ) -> int:
        """Publishes on a channel; returns the post's number."""
        return self._ask(calls.publish(channel, payload, kind=kind, reply_to=reply_to))

    def channel_history(self, channel: str, *, since: int | None = None, limit: int | None = None) -> list[Post]:
        """What was published, oldest first."""
        return self._ask(calls.channel_history(channel, since=since, limit=limit))

    def tokens(self) -> list[TokenEntry]:
        """All tokens for an admin, else one's own."""
        return self._ask(calls.tokens())

    def create_token(self, agent_id: str, *, role: str | None = None) -> str:
        """One more token."""
        return self._ask(calls.create_token(agent_id, role))

    def revoke_tokens(self, agent_id: str) -> int:
        """Revokes all tokens of an agent; returns how many there were."""
        return self._ask(calls.revoke_tokens(agent_id))

    def config(self, name: str) -> dict[str, Any]:
        """A setting by the name in its path, such as ``default-repo``."""
        return self._ask(calls.config(name))

    def set_config(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Changes a setting."""
        return self._ask(calls.set_config(name, values))


def _body(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
