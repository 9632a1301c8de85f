"""Rate limits: tiers, lanes, and what a bucket may be told. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: Buckets count in millionths of a token.
MICRO: Final = 1_000_000
#: With these bounds every product in include/rate.lua is below 2^53, so that whole numbers stay exact.
MAX_CAPACITY: Final = 100_000
MIN_RATE: Final = 0.001
MAX_RATE: Final = 100_000


class Tier(StrEnum):
    """How much a request costs the hub."""

    LIGHT = "light"  #: cheap reads
    NORMAL = "normal"
    HEAVY = "heavy"  #: makes something that stays: tasks, channels, registrations


class Lane(StrEnum):
    """Requests and frames have buckets of their own."""

    HTTP = "http"
    WS = "ws"


@dataclass(frozen=True, slots=True)
class Limit:
    """A bucket's size and how many tokens it gains a minute."""

    capacity: float
    rate: float

    @property
    def micro(self) -> tuple[int, int]:
        """Both in millionths."""
        return int(self.capacity * MICRO), max(1, int(self.rate * MICRO))
