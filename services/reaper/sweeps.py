"""The sweeps: every deadline that has come is served, in bounded batches.

A sweep is one script that looks at the head of one sorted set, so an idle turn costs a few microseconds of Redis, and
two reapers that sweep at the same time find each deadline served only once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from agentcom.errors import StoreUnavailable
from agentcom.settings import SECOND, Settings
from agentcom.store.link import CommandError
from agentcom.store.store import Store
from agentcom.store.tasks import Swept
from services.outage import Outage
from services.runtime import BaseComponent, pause

log = structlog.get_logger(__name__)

#: Batches of one sweep in one turn; what is still due then waits until the other sweeps had theirs.
BUDGET: Final = 50
_MAX_SILENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Sweep:
    """One kind of deadline. ``routine``: serving some says nothing about the health of agents."""

    name: str
    serve: Callable[[int], Awaitable[Swept]]
    routine: bool = False


def sweeps(store: Store, settings: Settings) -> Sequence[Sweep]:
    """Every sweep, in the order of a turn.

    What is over ends before what was lost is queued again, and agents are freed before that too, so that a task which
    comes back can go out again in the same turn.
    """
    tasks, agents, gateways = store.tasks, store.agents, store.gateways
    stale_ms = settings.stale_agent_ms
    return (
        Sweep("gateways_lost", lambda limit: gateways.expire(limit=limit)),
        Sweep("agents_stale", lambda limit: agents.evict(stale_ms=stale_ms, limit=limit)),
        Sweep("agents_rested", lambda limit: agents.unblock(limit=limit), routine=True),
        Sweep("cancels_unanswered", lambda limit: tasks.end_cancel(limit=limit)),
        Sweep("tasks_expired", lambda limit: tasks.expire("expires", limit=limit)),
        Sweep("tasks_overdue", lambda limit: tasks.expire("complete_by", limit=limit)),
        Sweep("tasks_overrun", lambda limit: tasks.overrun(limit=limit)),
        Sweep("agents_gone", lambda limit: agents.expire_grace(limit=limit)),
        Sweep("tasks_unaccepted", lambda limit: tasks.reclaim("accept", limit=limit)),
        Sweep("tasks_silent", lambda limit: tasks.reclaim("progress", limit=limit)),
        Sweep("mail_expired", lambda limit: store.mail.evict(limit=limit), routine=True),
        Sweep("tasks_promoted", lambda limit: tasks.promote(limit=limit), routine=True),
    )


class Sweeper(BaseComponent):
    """Runs all sweeps, pauses, and runs them again."""

    def __init__(self, sweeps: Sequence[Sweep], *, interval_ms: int, batch: int) -> None:
        super().__init__("reaper.sweeps", max_silence=max(_MAX_SILENCE_S, 4 * interval_ms / SECOND))
        self._sweeps = sweeps
        self._interval_s = interval_ms / SECOND
        self._batch = batch
        self._failing: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        outage = Outage()
        while not stop.is_set():
            try:
                more = await self._turn(stop)
            except StoreUnavailable as error:
                await outage.wait(stop, error)
                self.touch()
                continue
            outage.over()
            if not more:
                await pause(stop, self._interval_s * random.uniform(0.9, 1.1))

    async def _turn(self, stop: asyncio.Event) -> bool:
        """One round of all sweeps. Returns whether some deadlines are still due."""
        unfinished = False
        for sweep in self._sweeps:
            if stop.is_set():
                return False
            try:
                served, more = await self._exhaust(sweep)
            except CommandError:
                # One sweep that Redis refuses must not keep the other deadlines from being served.
                if sweep.name not in self._failing:
                    log.exception("sweep_failed", sweep=sweep.name)
                self._failing.add(sweep.name)
                continue
            self._failing.discard(sweep.name)
            unfinished = unfinished or more
            if served:
                say = log.debug if sweep.routine else log.info
                say("swept", sweep=sweep.name, served=served)
        return unfinished

    async def _exhaust(self, sweep: Sweep) -> tuple[int, bool]:
        served = 0
        for _ in range(BUDGET):
            swept = await sweep.serve(self._batch)
            self.touch()
            served += swept.served
            if not swept.more:
                return served, False
        return served, True
