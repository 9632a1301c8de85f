"""The synchronous client."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from os import PathLike
from types import TracebackType
from typing import Generic, ParamSpec, Self, TypeVar, overload

import httpx

from agentcom_client import calls
from agentcom_client.calls import Call
from agentcom_client.trial import Patience, Trial, connection
from agentcom_client.types import Task

P = ParamSpec("P")
T = TypeVar("T")


class Asked(Generic[P, T]):
    """A method of the client: what it asks for is told by a function of :mod:`agentcom_client.calls`."""

    def __init__(self, call: Callable[P, Call[T]]) -> None:
        self._call = call
        self.__doc__ = call.__doc__

    @overload
    def __get__(self, client: None, owner: type[Client]) -> Asked[P, T]: ...
    @overload
    def __get__(self, client: Client, owner: type[Client]) -> Callable[P, T]: ...
    def __get__(self, client: Client | None, owner: type[Client]) -> Asked[P, T] | Callable[P, T]:
        if client is None:
            return self

        @wraps(self._call)
        def ask(*args: P.args, **kwargs: P.kwargs) -> T:
            return client.ask(self._call(*args, **kwargs))

        return ask


class Client:
    """A hub, as the holder of a token. Use it as a context manager."""

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
        self._http = httpx.Client(
            **connection(url, token, timeout=timeout, trust_env=trust_env, ca_file=ca_file, user_agent=user_agent)
        )

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
        trial = Trial(call, self._url)
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
