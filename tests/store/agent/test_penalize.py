"""agent/penalize: too many invalid frames; the agent may not identify for a while, longer each time."""

from __future__ import annotations

from agentcom.store.store import Store
from tests.support.clock import T0, StoreClock
from tests.support.snapshot import changes


async def test_the_cooldown_is_remembered_for_an_hour(store: Store, clock: StoreClock) -> None:
    assert await changes(store, store.agents.penalize("a1")) == {
        "violations:a1": {"count": 1, "until": T0 + 30_000, "answered": 30_000},
        "violations:a1 ttl": 3_600,
    }


async def test_each_offence_costs_more_up_to_a_limit(store: Store, clock: StoreClock) -> None:
    cooldowns = [await store.agents.penalize("a1") for _ in range(4)]
    assert cooldowns == [30_000, 60_000, 300_000, 300_000]


async def test_others_are_not_punished(store: Store, clock: StoreClock) -> None:
    await store.agents.penalize("a1")
    assert await store.agents.penalize("a2") == 30_000
