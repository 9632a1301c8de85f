"""What a service is made of: loops that say when they last got something done."""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from typing import Protocol


class StartupError(Exception):
    """The service cannot run like this (a port is taken, a setting makes no sense); starting it again will not help.

    The message is one sentence for the person who started it. Raised from a component, it ends the whole service.
    """


class Component(Protocol):
    """One long-running part of a service, run and watched by a Supervisor.

    ``run`` returns soon after ``stop`` is set; returning or raising earlier counts as a crash and it is run again.
    ``last_progress`` (``time.monotonic()`` seconds) moves on with every turn, an idle one too; a component that has not
    moved for ``max_silence`` seconds is stalled. ``ready`` is set once it does its work.
    """

    @property
    def name(self) -> str: ...

    @property
    def max_silence(self) -> float: ...

    @property
    def last_progress(self) -> float: ...

    @property
    def ready(self) -> asyncio.Event: ...

    async def run(self, stop: asyncio.Event) -> None: ...


class BaseComponent(ABC):
    """A Component that calls ``touch`` on every turn; the first call makes it ready."""

    def __init__(self, name: str, *, max_silence: float = 30.0) -> None:
        self.name = name
        self.max_silence = max_silence
        self.last_progress = time.monotonic()
        self.ready = asyncio.Event()

    def touch(self) -> None:
        """Say that a turn was done."""
        self.last_progress = time.monotonic()
        self.ready.set()

    @abstractmethod
    async def run(self, stop: asyncio.Event) -> None: ...


async def pause(stop: asyncio.Event, seconds: float) -> bool:
    """Wait for so long, or until ``stop`` is set. Returns whether it is set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
    return stop.is_set()
