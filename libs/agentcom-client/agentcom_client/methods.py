"""What can be asked of a hub, as methods of both clients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from functools import wraps
from os import PathLike
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from agentcom_client import calls
from agentcom_client.calls import Call
from agentcom_client.connection import connection

if TYPE_CHECKING:
    from agentcom_client.aio import AsyncClient
    from agentcom_client.client import Client

P = ParamSpec("P")
T = TypeVar("T")


class Asked(Generic[P, T]):
    """A method of a client: what it asks for is told by a function of :mod:`agentcom_client.calls`.

    It gives what the client's ``ask`` gives: the answer itself, or for the asynchronous client what to await.
    """

    def __init__(self, call: Callable[P, Call[T]]) -> None:
        self._call = call
        self.__doc__ = call.__doc__

    @overload
    def __get__(self, client: None, owner: type[Methods]) -> Asked[P, T]: ...
    @overload
    def __get__(self, client: Client, owner: type[Methods]) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type[Methods]) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(
        self, client: Client | AsyncClient | None, owner: type[Methods]
    ) -> Asked[P, T] | Callable[P, T] | Callable[P, Coroutine[Any, Any, T]]:
        if client is None:
            return self

        @wraps(self._call)
        def ask(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client.ask(self._call(*args, **kwargs))

        return ask


class Methods(ABC):
    """One for each function of :mod:`agentcom_client.calls`, and how both clients are made."""

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
        self._open()

    @abstractmethod
    def _open(self) -> None:
        """Makes what requests are sent with, out of ``_connection``."""

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
