"""The job queue: arq, for work that may be late and must be retried. Tasks and deadlines never depend on it.

arq spells most of its keys ``arq:<kind>:<job id>`` and touches several in one transaction, so its Redis can't be a
Cluster and may be another one than the store's. The names that can be chosen lie in the namespace, the ids of cron jobs
included, so that namespaces may share a Redis. Jobs are JSON: a job never runs code that its sender chose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC
from typing import Any

import orjson
from arq.connections import ArqRedis
from arq.cron import CronJob
from arq.worker import Worker
from redis.asyncio import ConnectionPool

from agentcom.store.link import LOST_CONNECTION

#: What a lost or refusing Redis raises out of arq.
JOBS_REDIS_ERRORS = LOST_CONNECTION


def _encode(job: dict[str, Any]) -> bytes:
    # A failed job's result is its exception, of which the text is kept.
    return orjson.dumps(job, default=repr)


def _decode(stored: bytes) -> dict[str, Any]:
    job: dict[str, Any] = orjson.loads(stored)
    return job


@dataclass(frozen=True, slots=True)
class JobQueue:
    """The queue of one namespace. Raises ValueError for a URL that is none."""

    redis_url: str = field(repr=False)
    namespace: str

    def __post_init__(self) -> None:
        ConnectionPool.from_url(self.redis_url)

    @property
    def name(self) -> str:
        return f"ac:{{{self.namespace}}}:jobs"

    def job_name(self, job: str) -> str:
        """What a cron job is called; ids are made from it, so two namespaces must not share one."""
        return f"{self.name}:{job}"

    def connect(self) -> ArqRedis:
        """A client that can enqueue jobs; close it with ``aclose``."""
        pool = ConnectionPool.from_url(self.redis_url, socket_connect_timeout=5, socket_timeout=10)
        return ArqRedis(pool, job_serializer=_encode, job_deserializer=_decode, default_queue_name=self.name)

    def worker(self, crons: Sequence[CronJob], *, on_turn: Callable[[], None]) -> JobLoop:
        """A worker with a connection of its own; ``on_turn`` is called about twice a second while it works."""
        return JobLoop(self, crons, on_turn=on_turn)


class JobLoop(Worker):
    """arq's worker without its signal handlers; it polls, so each poll is a sign of life."""

    def __init__(self, queue: JobQueue, crons: Sequence[CronJob], *, on_turn: Callable[[], None]) -> None:
        super().__init__(
            # Each run starts from now: what was missed while no worker ran is not made up for.
            cron_jobs=[replace(job, next_run=None) for job in crons],
            queue_name=queue.name,
            redis_pool=queue.connect(),
            handle_signals=False,
            health_check_key=f"{queue.name}:health",
            health_check_interval=30,
            job_serializer=_encode,
            job_deserializer=_decode,
            timezone=UTC,
            log_results=False,
        )
        self._on_turn = on_turn

    async def heart_beat(self) -> None:
        await super().heart_beat()
        self._on_turn()

    async def shut(self) -> None:
        """Cancels what still runs (it is run again by the next worker) and closes the connection."""
        running = [task for task in (*self.tasks.values(), self.main_task) if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        # The health key is shared by all workers and expires by itself.
        await self.pool.connection_pool.disconnect()
