"""The store's clock in the hands of a test."""

from __future__ import annotations

from typing import Final

from agentcom.store.store import Store

#: Where the clock of a test begins: epoch milliseconds, some day in 2027.
T0: Final = 1_800_000_000_000
#: Time goes on in a Redis that is full, too.
_SET: Final = "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], ARGV[1])"


class StoreClock:
    """Stands still until it is moved. The store must be open with ``shifted_clock``."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._now_us = T0 * 1_000

    @property
    def now(self) -> int:
        """Epoch milliseconds."""
        return self._now_us // 1_000

    @property
    def now_us(self) -> int:
        """Epoch microseconds."""
        return self._now_us

    async def start(self) -> None:
        await self._set()

    async def advance(self, ms: int = 0, *, us: int = 0) -> None:
        """Moves the clock on."""
        self._now_us += ms * 1_000 + us
        await self._set()

    async def _set(self) -> None:
        await self._store.link.call("EVAL", _SET, 1, self._store.keys.clock_shift(), f"@{self._now_us}")
