"""Performing the operations of sessions on the store."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, assert_never

from agentcom.errors import StoreUnavailable
from agentcom.store.agents import Connection
from agentcom.store.store import Store
from services.ws_gateway.message_calls import perform_message
from services.ws_gateway.operations import (
    Accept,
    Complete,
    ConfirmCancel,
    Fail,
    Heartbeat,
    Identify,
    ListAgents,
    ListChannels,
    Operation,
    Progress,
    Publish,
    ReadChannel,
    Recover,
    Reject,
    SendMessage,
    SetStatus,
    Subscribe,
    Unsubscribe,
)
from services.ws_gateway.replies import Result

#: Agents that one list_agents frame names.
LISTED_AGENTS = 1_000
#: A pong waits no longer for the store. Clients drop a hub that takes ten seconds.
PONG_WITHIN_S = 1.0


def perform(
    store: Store, operation: Operation, *, agent_id: str, conn: str, gateway: str
) -> Coroutine[Any, Any, Result]:
    """The store call for an operation of an agent on a connection. ``gateway`` is the id under which it is held."""
    match operation:
        case Complete():
            return store.tasks.complete(
                operation.task_id,
                agent_id,
                conn=conn,
                generation=operation.generation,
                result=operation.result,
                tokens_used=operation.tokens_used,
            )
        case Accept():
            return store.tasks.accept(operation.task_id, agent_id, generation=operation.generation)
        case Progress():
            return store.tasks.progress(
                operation.task_id, agent_id, generation=operation.generation, progress=operation.progress
            )
        case Heartbeat():
            return _heartbeat(store, agent_id, conn=conn)
        case Fail():
            return store.tasks.fail(
                operation.task_id, agent_id, conn=conn, generation=operation.generation, reason=operation.reason
            )
        case Reject():
            return store.tasks.reject(
                operation.task_id, agent_id, generation=operation.generation, reason=operation.reason
            )
        case ConfirmCancel():
            return store.tasks.confirm_cancel(operation.task_id, agent_id, conn=conn, generation=operation.generation)
        case Recover():
            return store.tasks.recover(operation.task_id, agent_id)
        case SetStatus():
            return store.agents.set_status(agent_id, conn=conn, status=operation.status)
        case ListAgents():
            return store.agents.page(cursor=None, limit=LISTED_AGENTS)
        case SendMessage() | Publish() | ListChannels() | Subscribe() | Unsubscribe() | ReadChannel():
            return perform_message(store, operation, agent_id=agent_id)
        case Identify():
            return store.agents.connect(
                Connection(
                    agent_id=operation.agent_id,
                    conn=conn,
                    gateway=gateway,
                    token_digest=operation.token_digest,
                    name=operation.name,
                    status=operation.status,
                    capabilities=operation.capabilities,
                    features=operation.features,
                )
            )
    assert_never(operation)


async def _heartbeat(store: Store, agent_id: str, *, conn: str) -> int:
    try:
        async with asyncio.timeout(PONG_WITHIN_S):
            return await store.agents.heartbeat(agent_id, conn=conn)
    except TimeoutError as error:
        raise StoreUnavailable from error
