"""Runs the components of one service: starts them, starts crashed and stalled ones again, drains and stops them."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import structlog

from agentcom import __version__
from services.runtime.component import Component, StartupError, pause

log = structlog.get_logger(__name__)

Beat = Callable[[str, str, Mapping[str, object]], Awaitable[object]]
"""Publishes (service, instance, detail); injected, so that the skeleton knows nothing of the store."""

_CANCEL_GRACE_S: Final = 2.0
_FROZEN_S: Final = 2.0


class Phase(StrEnum):
    STARTING = "starting"  #: Not every component has done its first turn.
    READY = "ready"
    DRAINING = "draining"  #: Asked to stop: no new work, what runs may finish until the deadline.
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Pause before a crashed component runs again: doubling, capped, with up to half of it taken off at random."""

    first: float = 0.2
    cap: float = 30.0
    forget_after: float = 60.0  #: A run at least this long starts the count anew.

    def delay(self, crashes: int) -> float:
        """Seconds to wait after this many crashes in a row (1 or more)."""
        return min(self.cap, self.first * 2.0 ** min(crashes - 1, 30)) * random.uniform(0.5, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentHealth:
    live: bool
    ready: bool
    age_ms: int  #: since the last progress
    max_silence_ms: int
    restarts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    service: str
    instance: str
    phase: Phase
    components: Mapping[str, ComponentHealth]

    @property
    def live(self) -> bool:
        return all(component.live for component in self.components.values())

    @property
    def ready(self) -> bool:
        return self.phase is Phase.READY and self.live

    def detail(self) -> dict[str, object]:
        """JSON-ready, for the health endpoints and the beat."""
        return {
            "service": self.service,
            "instance": self.instance,
            "version": __version__,
            "phase": self.phase.value,
            "live": self.live,
            "ready": self.ready,
            "components": {
                name: {
                    "live": component.live,
                    "ready": component.ready,
                    "age_ms": component.age_ms,
                    "max_silence_ms": component.max_silence_ms,
                    "restarts": component.restarts,
                }
                for name, component in self.components.items()
            },
        }


@dataclass(slots=True)
class _Child:
    component: Component
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None  #: keeps the component running, across crashes
    turn: asyncio.Task[None] | None = None  #: the current call of ``run``
    restarts: int = 0
    stalled: bool = False


class Supervisor:
    """The life of one service.

    Components start in the given order and stop in the opposite one, each after the one before has ended, so that what
    others depend on (a lease, a publisher) comes first. The whole drain has one deadline; then the rest is cancelled.
    """

    def __init__(
        self,
        service: str,
        components: Iterable[Component] = (),
        *,
        beat: Beat | None = None,
        beat_interval: float = 5.0,
        drain_timeout: float = 10.0,
        backoff: Backoff | None = None,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self.service = service
        self.instance = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self.phase = Phase.STARTING
        self.on_ready = on_ready
        self._children: dict[str, _Child] = {}
        self._beat = beat
        self._beat_interval = beat_interval
        self._beat_failing = False
        self._drain_timeout = drain_timeout
        self._backoff = backoff or Backoff()
        self._stop_requested = asyncio.Event()
        self._abort_requested = asyncio.Event()
        self._ready = asyncio.Event()
        self._fatal: StartupError | None = None
        self._awake_since = 0.0
        for component in components:
            self.add(component)

    @property
    def components(self) -> tuple[Component, ...]:
        return tuple(child.component for child in self._children.values())

    def add(self, component: Component) -> None:
        """Take in one more component, before ``run``. Names are unique."""
        if component.name in self._children:
            raise ValueError(f"two components are named {component.name!r}")
        self._children[component.name] = _Child(component)

    def request_stop(self, reason: str) -> None:
        """Begin to drain. Asking a second time cancels what is still running."""
        if self._stop_requested.is_set():
            self._abort_requested.set()
        else:
            log.info("service_stopping", reason=reason)
            self._stop_requested.set()

    async def wait_ready(self) -> None:
        """Return when every component is ready."""
        await self._ready.wait()

    def health(self) -> Health:
        """How the components are right now. A component that lags behind its bound is not live."""
        now = time.monotonic()
        components = {}
        for name, child in self._children.items():
            age = now - max(child.component.last_progress, self._awake_since)
            components[name] = ComponentHealth(
                live=age <= child.component.max_silence or self.phase is Phase.DRAINING,
                ready=child.component.ready.is_set(),
                age_ms=round(age * 1000),
                max_silence_ms=round(child.component.max_silence * 1000),
                restarts=child.restarts,
            )
        return Health(service=self.service, instance=self.instance, phase=self.phase, components=components)

    async def run(self) -> None:
        """Run until ``request_stop``, then drain. Raises StartupError when a component says that it cannot run."""
        log.info("service_starting", version=__version__, instance=self.instance, components=list(self._children))
        for child in self._children.values():
            child.task = asyncio.create_task(self._keep_running(child), name=child.component.name)
        helpers = [
            asyncio.create_task(self._await_ready(), name="await-ready"),
            asyncio.create_task(self._watch(), name="watch"),
        ]
        beating = asyncio.create_task(self._publish(), name="beat") if self._beat else None
        try:
            await self._stop_requested.wait()
            self.phase = Phase.DRAINING
            await _cancel(helpers)
            await self._drain()
        finally:
            self.phase = Phase.STOPPED
            left = [*helpers, *(child.task for child in self._children.values() if child.task)]
            await _cancel([*left, beating] if beating else left)
        if self._fatal is not None:
            raise self._fatal
        log.info("service_stopped")

    # -- components ------------------------------------------------------------------------------------------------

    async def _keep_running(self, child: _Child) -> None:
        component, crashes = child.component, 0
        with structlog.contextvars.bound_contextvars(component=component.name):
            while not child.stop.is_set():
                started = time.monotonic()
                child.turn = asyncio.create_task(component.run(child.stop), name=f"{component.name}.run")
                try:
                    await asyncio.wait({child.turn})
                except asyncio.CancelledError:
                    await _cancel([child.turn])
                    raise
                if child.stop.is_set():
                    _log_end(child.turn)
                    return
                error = None if child.turn.cancelled() else child.turn.exception()
                if isinstance(error, StartupError):
                    self._fatal = error
                    self.request_stop("cannot start")
                    return
                crashes = 1 if time.monotonic() - started >= self._backoff.forget_after else crashes + 1
                child.restarts += 1
                delay = self._backoff.delay(crashes)
                log.error(
                    "component_stalled" if child.stalled else "component_crashed",
                    error=repr(error) if error else "ended without being asked to",
                    restart_in_ms=round(delay * 1000),
                    crashes=crashes,
                    exc_info=error,
                )
                child.stalled = False
                await pause(child.stop, delay)

    async def _watch(self) -> None:
        """Cancel the current turn of a component without progress; ``_keep_running`` starts the next one."""
        shortest = min((c.max_silence for c in self.components), default=1.0)
        interval = max(0.05, min(1.0, shortest / 4))
        while True:
            slept_at = time.monotonic()
            await asyncio.sleep(interval)
            now = time.monotonic()
            if now - slept_at > interval + _FROZEN_S:
                # The whole process stood still (SIGSTOP, a paused machine): nobody could make progress.
                self._awake_since = now
            for child in self._children.values():
                silent = now - max(child.component.last_progress, self._awake_since)
                running = child.turn is not None and not child.turn.done()
                if running and silent > child.component.max_silence and not child.stalled:
                    child.stalled = True
                    assert child.turn is not None  # noqa: S101 - it is running
                    child.turn.cancel(f"no progress for {silent:.1f} s")

    async def _await_ready(self) -> None:
        for component in self.components:
            await component.ready.wait()
        self.phase = Phase.READY
        log.info("service_ready")
        self._ready.set()
        if self.on_ready:
            self.on_ready()

    # -- the end ---------------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        deadline = time.monotonic() + self._drain_timeout
        aborted = asyncio.create_task(self._abort_requested.wait(), name="abort")
        try:
            for child in reversed(self._children.values()):
                child.stop.set()
                if child.task is None or child.task.done():
                    continue
                left = max(0.0, deadline - time.monotonic())
                await asyncio.wait({child.task, aborted}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if not child.task.done():
                    log.warning("drain_cut_short", component=child.component.name, aborted=aborted.done())
        finally:
            await _cancel([aborted])

    # -- being seen ------------------------------------------------------------------------------------------------

    async def _publish(self) -> None:
        """Say every few seconds, drain included, that this copy is there and how it is."""
        assert self._beat is not None  # noqa: S101 - started only with one
        while True:
            try:
                async with asyncio.timeout(self._beat_interval):
                    await self._beat(self.service, self.instance, self.health().detail())
            except Exception as error:  # noqa: BLE001 - whatever fails, the next beat tries again
                if not self._beat_failing:
                    log.warning("beat_failed", error=repr(error))
                self._beat_failing = True
            else:
                if self._beat_failing:
                    log.info("beat_recovered")
                self._beat_failing = False
            await asyncio.sleep(self._beat_interval * random.uniform(0.9, 1.1))


def _log_end(turn: asyncio.Task[None]) -> None:
    if not turn.cancelled() and (error := turn.exception()) is not None:
        log.error("component_failed_to_stop", error=repr(error), exc_info=error)


async def _cancel(tasks: Iterable[asyncio.Task[object] | asyncio.Task[None] | asyncio.Task[bool]]) -> None:
    """Cancel the tasks and wait a moment for them; one that refuses is left behind, and said so."""
    running = {task for task in tasks if not task.done()}
    for task in running:
        task.cancel()
    if running:
        _, refusing = await asyncio.wait(running, timeout=_CANCEL_GRACE_S)
        for task in refusing:
            log.error("task_ignores_cancellation", task=task.get_name())
