"""The asynchronous client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from agentcom_client import calls
from agentcom_client.calls import Call
from agentcom_client.events import agent_events
from agentcom_client.methods import Methods
from agentcom_client.trial import Patience, Trial
from agentcom_client.types import Frame, Task

T = TypeVar("T")


class AsyncClient(Methods):
    """A hub, as the holder of a token. Use it as an asynchronous context manager."""

    def _open(self) -> None:
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
