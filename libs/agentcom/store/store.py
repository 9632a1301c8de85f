"""Opening the store: one link, one client for blocking reads, and the repositories on top."""

from __future__ import annotations

from redis.asyncio import ConnectionPool, Redis

from agentcom.settings import Settings
from agentcom.store.admin_log import AdminLog
from agentcom.store.agents import AgentStore
from agentcom.store.analytics import AnalyticsStore
from agentcom.store.channels import ChannelStore
from agentcom.store.gateways import GatewayStore
from agentcom.store.keys import Keys
from agentcom.store.link import Link
from agentcom.store.mail import MailStore
from agentcom.store.matching import MatchStore
from agentcom.store.message_reader import MessageReader
from agentcom.store.rate_limits import RateLimiter
from agentcom.store.scripts import Scripts
from agentcom.store.server import ServerStore
from agentcom.store.services import ServiceStore
from agentcom.store.task_reader import TaskReader
from agentcom.store.tasks import TaskStore
from agentcom.store.tokens import TokenStore


class Store:
    """Everything a service needs of Redis, for one namespace.

    ``shifted_clock`` lets tests move the store's clock; see ``Keys.clock_shift``.
    """

    def __init__(self, redis_url: str, settings: Settings, *, shifted_clock: bool = False) -> None:
        self.keys = Keys(settings.namespace)
        self._pool = ConnectionPool.from_url(redis_url, socket_connect_timeout=5, health_check_interval=0)
        self.link = Link(self._pool, greeting=self._greeting)
        outbox_link = Link(self._pool, greeting=list)
        self._links = (self.link, outbox_link)
        #: For other blocking reads: a read waits a second at most, so a connection silent for longer is dead.
        self.blocking = Redis.from_url(redis_url, socket_connect_timeout=5, socket_timeout=10, health_check_interval=15)
        self.scripts = Scripts(self.link, root=self.keys.root, shifted_clock=shifted_clock)
        self.tasks = TaskStore(self.scripts, settings)
        self.task_reader = TaskReader(self.link, self.keys)
        self.agents = AgentStore(self.scripts, self.link, self.keys, settings)
        self.gateways = GatewayStore(self.scripts, self.link, outbox_link, self.blocking, self.keys, settings)
        self.matching = MatchStore(self.scripts, self.link, self.blocking, self.keys, settings)
        self.mail = MailStore(self.scripts, self.link, self.keys, settings)
        self.channels = ChannelStore(self.scripts, self.link, self.keys, settings)
        self.messages = MessageReader(self.scripts, settings)
        self.tokens = TokenStore(self.scripts, self.link, self.keys)
        self.services = ServiceStore(self.scripts, self.link, self.blocking, self.keys)
        self.rate_limits = RateLimiter(self.scripts, self.link, self.keys, settings)
        self.analytics = AnalyticsStore(self.link, self.keys, self.agents)
        self.admin_log = AdminLog(self.scripts, self.link, self.keys)
        self.server = ServerStore(self.link)

    def _greeting(self) -> list[tuple[bytes, ...]]:
        return self.scripts.greeting()

    def open(self) -> None:
        """Begins to connect; Redis need not be there yet."""
        self.link.start()

    async def close(self) -> None:
        for link in self._links:
            await link.close()
        await self.blocking.aclose()
        await self._pool.disconnect()

    async def __aenter__(self) -> Store:
        self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
