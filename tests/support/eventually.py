"""Wait for a condition instead of sleeping."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

T = TypeVar("T")

NEVER = "the condition never held"

_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.1


@overload
async def eventually(condition: Callable[[], Awaitable[T]], *, timeout: float = 30.0, message: str = NEVER) -> T: ...
@overload
async def eventually(condition: Callable[[], T], *, timeout: float = 30.0, message: str = NEVER) -> T: ...
async def eventually(condition: Callable[[], object], *, timeout: float = 30.0, message: str = NEVER) -> object:
    """Call ``condition`` until it neither raises AssertionError nor returns False, and return what it returned.

    It may be a plain or an async function; one that only asserts returns None, which counts as held. After ``timeout``
    seconds the last AssertionError is raised.
    """
    deadline, wait = time.monotonic() + timeout, _FIRST_PAUSE_S
    while True:
        last: AssertionError | None = None
        try:
            outcome = condition()
            value = await outcome if inspect.isawaitable(outcome) else outcome
        except AssertionError as error:
            last = error
        else:
            if value is not False:
                return value
        if time.monotonic() >= deadline:
            raise last or AssertionError(f"{message} within {timeout:g} s")
        await asyncio.sleep(wait)
        wait = min(wait * 1.5, _LONGEST_PAUSE_S)


def eventually_sync(condition: Callable[[], T], *, timeout: float = 30.0, message: str = NEVER) -> T:
    """The same for a test without an event loop."""
    deadline, wait = time.monotonic() + timeout, _FIRST_PAUSE_S
    while True:
        last: AssertionError | None = None
        try:
            value = condition()
        except AssertionError as error:
            last = error
        else:
            if value is not False:
                return value
        if time.monotonic() >= deadline:
            raise last or AssertionError(f"{message} within {timeout:g} s")
        time.sleep(wait)
        wait = min(wait * 1.5, _LONGEST_PAUSE_S)
