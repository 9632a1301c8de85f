"""The asynchronous client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import wraps
from os import PathLike
from types import TracebackType
from typing import Any, Generic, ParamSpec, Self, TypeVar, overload

import httpx

from agentcom_client import calls
from agentcom_client.calls import Call
from agentcom_client.events import agent_events
from agentcom_client.trial import Patience, Trial, connection
from agentcom_client.types import Frame, Task

P = ParamSpec("P")
T = TypeVar("T")


class Asked(Generic[P, T]):
    """A method of the client: what it asks for is told by a function of :mod:`agentcom_client.calls`."""

    def __init__(self, call: Callable[P, Call[T]]) -> None:
        self._call = call
        self.__doc__ = call.__doc__

    @overload
    def __get__(self, client: None, owner: type[AsyncClient]) -> Asked[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type[AsyncClient]) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(
        self, client: AsyncClient | None, owner: type[AsyncClient]
    ) -> Asked[P, T] | Callable[P, Coroutine[Any, Any, T]]:
        if client is None:
            return self

        @wraps(self._call)
        async def ask(*args: P.args, **kwargs: P.kwargs) -> T:
            return await client.ask(self._call(*args, **kwargs))

        return ask


class AsyncClient:
    """A hub, as the holder of a token. Use it as an asynchronous context manager."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout: float = 30.0,
        trust_env: bool = True,
        ca_file: str | PathLike[str] | None = None,
        user_agent: str | None = None,
    ) -> None:
        """``timeout`` in seconds, for one attempt. ``trust_env``: whether proxies of the environment are used.
        ``ca_file``: certificates of the authorities that the hub's is checked against, instead of the usual ones.

        Raises ValueError if that is no address, or no token, and OSError if the file cannot be used.
        """
        self._url = url.rstrip("/")
        #: How many seconds this machine's clock was ahead of the hub's at its last answer, exact to about one.
        self.clock_skew: float | None = None
        self._token = token
        self._http = httpx.AsyncClient(
            **connection(url, token, timeout=timeout, trust_env=trust_env, ca_file=ca_file, user_agent=user_agent)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends its connections."""
        await self._http.aclose()

    async def ask(self, call: Call[T]) -> T:
        """Makes a request; again after a pause, if it may be repeated and the hub is away or asks to wait."""
        trial = Trial(call, self._url)
        while True:
            try:
                response = await self._http.request(**trial.request)
            except httpx.RequestError as error:
                trial.failed(error)
            else:
                if trial.is_over(response):
                    self.clock_skew = trial.clock_skew(response)
                    return trial.answer(response)
            await asyncio.sleep(trial.pause)

    async def wait(self, task_id: str, *, timeout: float | None = None) -> Task:
        """The task, once it is completed, cancelled or a dead letter. Raises WaitTimeout after so many seconds."""
        patience = Patience(timeout)
        while True:
            task = await self.ask(calls.task(task_id))
            if patience.is_over(task):
                return task
            await asyncio.sleep(patience.pause(task))

    def events(self, agent_id: str, *, presence: bool = False, **identify: Any) -> AsyncIterator[Frame]:
        """What the hub pushes to this agent, until the socket ends: messages, posts, assignments, presence if asked.

        ``identify`` are further fields of the identify frame, such as ``capabilities``. The agent counts as connected.
        """
        return agent_events(self._url, agent_id, self._token or "", presence=presence, fields=identify)

    health = Asked(calls.health)
    ready = Asked(calls.ready)
    submit = Asked(calls.submit)
    submit_task = Asked(calls.submit_task)
    submit_many = Asked(calls.submit_many)
    task = Asked(calls.task)
    tasks = Asked(calls.tasks)
    cancel = Asked(calls.cancel)
    retry = Asked(calls.retry)
    register = Asked(calls.register)
    agents = Asked(calls.agents)
    agent_states = Asked(calls.agent_states)
    agent_state = Asked(calls.agent_state)
    send = Asked(calls.send)
    message = Asked(calls.message)
    messages = Asked(calls.messages)
    mailbox = Asked(calls.mailbox)
    ack = Asked(calls.ack)
    channels = Asked(calls.channels)
    create_channel = Asked(calls.create_channel)
    delete_channel = Asked(calls.delete_channel)
    subscribe = Asked(calls.subscribe)
    unsubscribe = Asked(calls.unsubscribe)
    publish = Asked(calls.publish)
    channel_history = Asked(calls.channel_history)
    tokens = Asked(calls.tokens)
    create_token = Asked(calls.create_token)
    revoke_tokens = Asked(calls.revoke_tokens)
    config = Asked(calls.config)
    set_config = Asked(calls.set_config)
