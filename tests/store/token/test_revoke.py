"""token/revoke: all tokens of an agent id; its live socket is closed and every process is told."""

from __future__ import annotations

from agentcom.store.store import Store
from agentcom.store.tokens import Role
from tests.support.clock import StoreClock
from tests.support.snapshot import GONE, changes
from tests.support.stages import idle_agent, working


async def test_the_tokens_are_gone_and_the_socket_is_closed(store: Store, clock: StoreClock) -> None:
    agent = await idle_agent(store)
    await store.tokens.mint("a1", role=Role.AGENT)
    await store.tokens.register("a2", role=Role.AGENT)
    changed = await changes(store, store.tokens.revoke("a1"))
    assert changed.pop("tokens").keys() == changed["tokens:a1"].keys()
    assert agent.token_digest in changed["tokens:a1"]
    assert set(changed.pop("tokens:a1").values()) == {GONE}
    assert changed == {
        "events": [{"event": "tokens_revoked", "agent_id": "a1", "count": 2}],
        "out:gw": [{"conn": "a1-conn", "kind": "close", "code": 4501, "frame": "token revoked"}],
    }


async def test_every_process_is_told_to_forget(store: Store, clock: StoreClock) -> None:
    await store.tokens.register("a1", role=Role.AGENT)
    notices = store.gateways.listen(["revoked"])
    assert (await anext(notices)).channel == "subscribed"
    await store.tokens.revoke("a1")
    notice = await anext(notices)
    assert (notice.channel, notice.data) == ("revoked", b"a1")
    await notices.aclose()  # type: ignore[attr-defined]


async def test_a_disconnected_agent_has_no_socket_to_close(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await store.agents.disconnect("a1", conn=agent.conn, reason="closed")
    assert "out:gw" not in await changes(store, store.tokens.revoke("a1"))


async def test_the_agent_may_register_anew(store: Store, clock: StoreClock) -> None:
    await store.tokens.register("a1", role=Role.AGENT)
    assert await store.tokens.revoke("a1") == 1
    assert await store.tokens.revoke("a1") == 0
    await store.tokens.register("a1", role=Role.AGENT)
