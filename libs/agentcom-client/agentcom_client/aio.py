"""The asynchronous client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from os import PathLike
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from agentcom_client import calls
from agentcom_client.calls import Call
from agentcom_client.connection import connection
from agentcom_client.events import agent_events
from agentcom_client.methods import Methods
from agentcom_client.trial import Patience, Trial
from agentcom_client.types import Frame, Task

T = TypeVar("T")


class AsyncClient(Methods):
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
        #: How many seconds this machine's clock was ahead of the hub's at its last answer, exact to about one.
        self.clock_skew: float | None = None
        self._connection = connection(
            url, token=token, timeout=timeout, trust_env=trust_env, ca_file=ca_file, user_agent=user_agent
        )
        self._http = httpx.AsyncClient(**self._connection.for_http)

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
        trial = Trial(call, self._connection.url)
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
        return agent_events(self._connection, agent_id, presence=presence, fields=identify)
