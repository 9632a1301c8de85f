"""A thin, typed client of the AgentCom hub."""

from agentcom_client.aio import AsyncClient
from agentcom_client.client import Client
from agentcom_client.errors import HubError, HubUnreachable, WaitTimeout
from agentcom_client.types import (
    Agent,
    AgentState,
    Channel,
    DeliveredMessage,
    Frame,
    Health,
    Message,
    Post,
    Published,
    Registration,
    Submission,
    Task,
    TaskPage,
    TaskStatus,
)

__all__ = [
    "Agent",
    "AgentState",
    "AsyncClient",
    "Channel",
    "Client",
    "DeliveredMessage",
    "Frame",
    "Health",
    "HubError",
    "HubUnreachable",
    "Message",
    "Post",
    "Published",
    "Registration",
    "Submission",
    "Task",
    "TaskPage",
    "TaskStatus",
    "WaitTimeout",
]
