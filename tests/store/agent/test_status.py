"""agent/status: sets an agent's own status text and tells everybody."""

from __future__ import annotations

import json

from agentcom.errors import ConnectionReplaced
from agentcom.store.store import Store
from tests.support.clock import T0, StoreClock
from tests.support.refusals import refused
from tests.support.snapshot import changes
from tests.support.stages import idle_agent


async def test_the_status_is_kept_and_told(store: Store, clock: StoreClock) -> None:
    await idle_agent(store)
    notices = store.gateways.listen(["presence"])
    assert (await anext(notices)).channel == "subscribed"
    assert await changes(store, store.agents.set_status("a1", conn="a1-conn", status="thinking")) == {
        "agent:a1": {"status": "thinking"},
        "events": [{"event": "agent_status_changed", "agent_id": "a1"}],
    }
    told = json.loads((await anext(notices)).data)
    assert told == {
        "type": "status_changed",
        "agent_id": "a1",
        "agent": {"agent_id": "a1", "name": None, "status": "thinking", "capabilities": [], "connected_at": T0},
    }
    await notices.aclose()  # type: ignore[attr-defined]


async def test_an_older_connection_is_refused(store: Store, clock: StoreClock) -> None:
    await idle_agent(store)
    await refused(store, store.agents.set_status("a1", conn="older", status="x"), ConnectionReplaced)
