"""gateway/renew: takes or prolongs a gateway's lease."""

from __future__ import annotations

from agentcom.errors import GatewayLeaseLost
from agentcom.store.store import Store
from tests.support.clock import T0, StoreClock
from tests.support.refusals import refused
from tests.support.snapshot import changes


async def test_a_lease_is_taken_and_prolonged(store: Store, clock: StoreClock) -> None:
    assert await changes(store, store.gateways.renew("gw", lease_ms=1_000, first=True)) == {
        "gateways": {"gw": T0 + 1_000},
        "gateways:since": T0,
    }
    await clock.advance(999)
    assert await store.gateways.renew("gw", lease_ms=1_000) == T0 + 1_999


async def test_a_lapsed_lease_is_lost(store: Store, clock: StoreClock) -> None:
    await store.gateways.renew("gw", lease_ms=1_000, first=True)
    await clock.advance(1_000)
    await refused(store, store.gateways.renew("gw", lease_ms=1_000), GatewayLeaseLost)


async def test_a_lease_must_be_taken_first(store: Store, clock: StoreClock) -> None:
    await refused(store, store.gateways.renew("gw", lease_ms=1_000), GatewayLeaseLost)


async def test_the_store_knows_since_when_there_is_always_a_gateway(store: Store, clock: StoreClock) -> None:
    await store.gateways.renew("gw", lease_ms=1_000, first=True)
    await clock.advance(999)
    assert await changes(store, store.gateways.renew("other", lease_ms=1_000, first=True)) == {
        "gateways": {"other": clock.now + 1_000}
    }
    await clock.advance(1_000)
    changed = await changes(store, store.gateways.renew("late", lease_ms=1_000, first=True))
    assert changed["gateways:since"] == clock.now
