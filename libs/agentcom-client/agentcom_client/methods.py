"""What can be asked of a hub, as methods of both clients."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from agentcom_client import calls
from agentcom_client.calls import Call

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


class Methods:
    """One for each function of :mod:`agentcom_client.calls`."""

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
