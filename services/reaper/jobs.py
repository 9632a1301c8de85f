"""arq's worker as a component."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Sequence
from typing import Final

import structlog
from arq.cron import CronJob

from agentcom.store.jobs import JOBS_REDIS_ERRORS, JobLoop, JobQueue
from services.runtime import BaseComponent, pause

log = structlog.get_logger(__name__)

_MAX_SILENCE_S: Final = 60.0
_FINISH_S: Final = 5.0
_RETRY_FIRST_S: Final = 0.5
_RETRY_LAST_S: Final = 15.0


class JobWorker(BaseComponent):
    """Runs jobs. Without its Redis it waits for it; nothing else of the hub does."""

    def __init__(self, queue: JobQueue, *, crons: Sequence[CronJob]) -> None:
        super().__init__("reaper.jobs", max_silence=_MAX_SILENCE_S)
        self._queue = queue
        self._crons = crons
        self._failures = 0

    async def run(self, stop: asyncio.Event) -> None:
        logging.getLogger("arq").setLevel(logging.WARNING)  # its info lines tell each start and end of each job
        while not stop.is_set():
            try:
                await self._work(stop)
            except JOBS_REDIS_ERRORS as error:
                if self._failures == 0:
                    log.warning("jobs_redis_lost", error=str(error) or type(error).__name__)
                delay = min(_RETRY_LAST_S, _RETRY_FIRST_S * 2.0 ** min(self._failures, 30))
                self._failures += 1
                self.touch()
                await pause(stop, delay * random.uniform(0.5, 1.0))

    async def _work(self, stop: asyncio.Event) -> None:
        """Works until ``stop`` is set or the connection is lost."""
        loop = self._queue.worker(self._crons, on_turn=self._turned)
        working = asyncio.create_task(loop.async_run(), name=f"{self.name}.work")
        stopping = asyncio.create_task(stop.wait(), name=f"{self.name}.stop")
        try:
            await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                await self._finish_jobs(loop)
            else:
                await working
        finally:
            stopping.cancel()
            await loop.shut()
            with contextlib.suppress(asyncio.CancelledError, *JOBS_REDIS_ERRORS):
                await working

    def _turned(self) -> None:
        if self._failures:
            log.info("jobs_redis_back", failures=self._failures)
        self._failures = 0
        self.touch()

    @staticmethod
    async def _finish_jobs(loop: JobLoop) -> None:
        loop.allow_pick_jobs = False
        running = [task for task in loop.tasks.values() if not task.done()]
        if running:
            await asyncio.wait(running, timeout=_FINISH_S)
