"""token/mint: one more token for an agent id, or the first one of a new store."""

from __future__ import annotations

from agentcom.errors import TokenExists
from agentcom.store.store import Store
from agentcom.store.tokens import Principal, Role, TokenInfo, digest
from tests.support.clock import T0, StoreClock
from tests.support.refusals import refused
from tests.support.snapshot import HERE, changes

TOKEN = "0123456789abcdef" * 4


async def test_a_given_token_is_stored(store: Store, clock: StoreClock) -> None:
    assert await changes(store, store.tokens.mint("a1", role=Role.ADMIN, token=TOKEN)) == {
        "events": [{"event": "token_minted", "agent_id": "a1", "role": "admin"}],
        "tokens": {digest(TOKEN): f'{{"agent_id":"a1","role":"admin","prefix":"01234567","created_at":{T0}}}'},
        "tokens:a1": {digest(TOKEN): HERE},
    }


async def test_an_agent_may_have_several(store: Store, clock: StoreClock) -> None:
    first = await store.tokens.register("a1", role=Role.AGENT)
    second = await store.tokens.mint("a1", role=Role.AGENT)
    for token in (first, second):
        assert await store.tokens.find(digest(token)) == Principal(agent_id="a1", role=Role.AGENT)
    found = [info async for info in store.tokens.all()]
    assert sorted(info.prefix for info in found) == sorted([first[:8], second[:8]])
    assert set(found) == {
        TokenInfo(agent_id="a1", role=Role.AGENT, prefix=token[:8], created_at=T0) for token in (first, second)
    }


async def test_the_same_call_sent_twice_mints_once(store: Store, clock: StoreClock) -> None:
    await store.tokens.mint("a1", role=Role.ADMIN, token=TOKEN)
    await clock.advance(7)
    assert await changes(store, store.tokens.mint("a1", role=Role.ADMIN, token=TOKEN)) == {}


async def test_a_token_of_another_agent_is_refused(store: Store, clock: StoreClock) -> None:
    await store.tokens.mint("a1", role=Role.AGENT, token=TOKEN)
    await refused(store, store.tokens.mint("a2", role=Role.AGENT, token=TOKEN), TokenExists)


class TestFirst:
    async def test_a_new_store_gets_its_first_token(self, store: Store, clock: StoreClock) -> None:
        assert await store.tokens.any() is False
        assert await store.tokens.mint_first("admin", role=Role.ADMIN, token=TOKEN) is True
        assert await store.tokens.any() is True
        assert await store.tokens.find(digest(TOKEN)) == Principal(agent_id="admin", role=Role.ADMIN)

    async def test_the_same_call_sent_twice_answers_the_same(self, store: Store, clock: StoreClock) -> None:
        await store.tokens.mint_first("admin", role=Role.ADMIN, token=TOKEN)
        assert await store.tokens.mint_first("admin", role=Role.ADMIN, token=TOKEN) is True

    async def test_a_store_with_any_token_gets_none(self, store: Store, clock: StoreClock) -> None:
        await store.tokens.register("a1", role=Role.AGENT)
        answers: list[bool] = []

        async def call() -> None:
            answers.append(await store.tokens.mint_first("admin", role=Role.ADMIN, token=TOKEN))

        assert await changes(store, call()) == {}
        assert answers == [False]
