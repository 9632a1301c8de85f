"""Retention: finished tasks and dead letters that are too old or too many are removed."""

from __future__ import annotations

from typing import Any, Final, Literal

import structlog
from arq.cron import CronJob, cron

from agentcom.errors import StoreUnavailable
from agentcom.store.jobs import JobQueue
from agentcom.store.tasks import TaskStore

log = structlog.get_logger(__name__)

_TIMEOUT_S: Final = 50  # the next minute's run begins where this one stopped
_KINDS: Final[tuple[Literal["finished", "dead"], ...]] = ("finished", "dead")


def retention_cron(queue: JobQueue, tasks: TaskStore, *, batch: int) -> CronJob:
    """The job, once a minute on whichever worker takes it."""

    async def retention(ctx: dict[Any, Any], *_: Any, **__: Any) -> None:
        try:
            removed = {kind: await _prune(tasks, kind, batch=batch) for kind in _KINDS}
        except StoreUnavailable as error:
            log.warning("retention_interrupted", error=error.message)
            return
        if any(removed.values()):
            log.info("tasks_pruned", **removed)

    return cron(retention, name=queue.job_name("retention"), second=30, timeout=_TIMEOUT_S, unique=True)


async def _prune(tasks: TaskStore, kind: Literal["finished", "dead"], *, batch: int) -> int:
    removed = 0
    while True:
        swept = await tasks.prune(kind, limit=batch)
        removed += swept.served
        if not swept.more:
            return removed
