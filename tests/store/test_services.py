"""Beats of the services, and the server's state."""

from __future__ import annotations

import json
from dataclasses import replace

from agentcom.store.server import ServerState
from agentcom.store.services import FORGET_AFTER_MS
from agentcom.store.store import Store

LIVE_MS = 60_000


async def age(store: Store, field: str, *, by_ms: int) -> None:
    """Makes a stored beat older."""
    stored = await store.link.call("HGET", store.keys.services(), field)
    assert isinstance(stored, bytes)
    record = json.loads(stored)
    record["at"] -= by_ms
    await store.link.call("HSET", store.keys.services(), field, json.dumps(record))


async def states(store: Store) -> dict[str, bool]:
    beats = await store.services.beats(live_within_ms=LIVE_MS)
    return {f"{beat.service}:{beat.instance}": beat.live for beat in beats}


async def test_an_instance_lives_while_it_beats(store: Store) -> None:
    await store.services.beat("api", "one")
    await store.services.beat("api", "two")
    await store.services.beat("reaper", "one")
    await age(store, "api:two", by_ms=LIVE_MS + 1_000)
    assert await states(store) == {"api:one": True, "api:two": False, "reaper:one": True}


async def test_an_instance_with_a_stalled_loop_is_not_live(store: Store) -> None:
    await store.services.beat("reaper", "one", stalled=("reaper.sweeps",))
    [beat] = await store.services.beats(live_within_ms=LIVE_MS)
    assert (beat.live, beat.stalled) == (False, ("reaper.sweeps",))


async def test_an_instance_that_stops_says_so(store: Store) -> None:
    await store.services.beat("api", "one")
    await store.services.leave("api", "one")
    assert await states(store) == {}


async def test_an_instance_that_died_is_forgotten_in_the_end(store: Store) -> None:
    await store.services.beat("api", "one")
    await age(store, "api:one", by_ms=FORGET_AFTER_MS + 1_000)
    assert await states(store) == {}
    assert await store.link.call("EXISTS", store.keys.services()) == 0


async def test_the_server_tells_its_state(store: Store) -> None:
    state = await store.server.state()
    assert state.version[0].isdigit()
    assert state.used_memory > 0
    assert state.append_only is False


def test_a_server_that_endangers_the_promises_is_a_concern() -> None:
    good = ServerState(
        version="7.4.0",
        eviction_policy="noeviction",
        append_only=True,
        append_only_ok=True,
        snapshot_ok=True,
        used_memory=1,
        max_memory=100,
    )
    assert good.concerns() == []
    endangered = {
        "evicts_keys": replace(good, eviction_policy="allkeys-lru"),
        "append_only_off": replace(good, append_only=False),
        "append_only_failing": replace(good, append_only_ok=False),
        "snapshot_failing": replace(good, snapshot_ok=False),
        "memory_high": replace(good, used_memory=91),
    }
    for code, state in endangered.items():
        [concern] = state.concerns()
        assert concern.code == code
        assert concern.message.endswith(".")
