"""The synchronous client."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self, TypeVar

import httpx

from agentcom_client import calls
from agentcom_client.calls import Call
from agentcom_client.methods import Methods
from agentcom_client.trial import Patience, Trial
from agentcom_client.types import Task

T = TypeVar("T")


class Client(Methods):
    """A hub, as the holder of a token. Use it as a context manager."""

    def _open(self) -> None:
        self._http = httpx.Client(**self._connection.for_http)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends its connections."""
        self._http.close()

    def ask(self, call: Call[T]) -> T:
        """Makes a request; again after a pause, if it may be repeated and the hub is away or asks to wait."""
        trial = Trial(call, self._connection.url)
        while True:
            try:
                response = self._http.request(**trial.request)
            except httpx.RequestError as error:
                trial.failed(error)
            else:
                if trial.is_over(response):
                    self.clock_skew = trial.clock_skew(response)
                    return trial.answer(response)
            time.sleep(trial.pause)

    def wait(self, task_id: str, *, timeout: float | None = None) -> Task:
        """The task, once it is completed, cancelled or a dead letter. Raises WaitTimeout after so many seconds."""
        patience = Patience(timeout)
        while True:
            task = self.ask(calls.task(task_id))
            if patience.is_over(task):
                return task
            time.sleep(patience.pause(task))
