"""A thin, typed client of the AgentCom hub."""

from agentcom_client.aio import AsyncClient
from agentcom_client.client import Client
from agentcom_client.errors import HubError, HubUnreachable, WaitTimeout
from agentcom_client.types import Agent, Channel, Frame, Message, Post, Task, TaskPage, TaskStatus

__all__ = [
    "Agent",
    "AsyncClient",
    "Channel",
    "Client",
    "Frame",
    "HubError",
    "HubUnreachable",
    "Message",
    "Post",
    "Task",
    "TaskPage",
    "TaskStatus",
    "WaitTimeout",
]
