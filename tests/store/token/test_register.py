"""token/register: the first token of an agent id."""

from __future__ import annotations

import pytest

from agentcom.errors import AgentExists, TokenExists
from agentcom.store import tokens
from agentcom.store.store import Store
from agentcom.store.tokens import Principal, Role, digest
from tests.support.clock import T0, StoreClock
from tests.support.refusals import refused
from tests.support.snapshot import HERE, changes

TOKEN = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def _known_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "new_token", lambda: TOKEN)


async def test_only_a_digest_and_a_prefix_are_kept(store: Store, clock: StoreClock) -> None:
    assert await changes(store, store.tokens.register('a"1', role=Role.AGENT)) == {
        "events": [{"event": "agent_registered", "agent_id": 'a"1', "role": "agent"}],
        "tokens": {digest(TOKEN): f'{{"agent_id":"a\\"1","role":"agent","prefix":"01234567","created_at":{T0}}}'},
        'tokens:a"1': {digest(TOKEN): HERE},
    }


async def test_the_token_names_its_agent(store: Store, clock: StoreClock) -> None:
    token = await store.tokens.register("a1", role=Role.ADMIN)
    assert await store.tokens.find(digest(token)) == Principal(agent_id="a1", role=Role.ADMIN)
    assert await store.tokens.find(digest("another")) is None


async def test_the_same_call_sent_twice_registers_once(store: Store, clock: StoreClock) -> None:
    await store.tokens.register("a1", role=Role.AGENT)
    assert await changes(store, store.tokens.register("a1", role=Role.AGENT)) == {}


async def test_an_agent_that_has_a_token_is_refused(
    store: Store, clock: StoreClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.tokens.register("a1", role=Role.AGENT)
    monkeypatch.setattr(tokens, "new_token", lambda: "f" * 64)
    error = await refused(store, store.tokens.register("a1", role=Role.AGENT), AgentExists)
    assert error.details == {"agent_id": "a1"}


async def test_a_chosen_token_is_registered_any_number_of_times(store: Store, clock: StoreClock) -> None:
    assert await store.tokens.register("a1", role=Role.AGENT, token="b" * 64) == "b" * 64
    assert await changes(store, store.tokens.register("a1", role=Role.AGENT, token="b" * 64)) == {}
    assert await store.tokens.find(digest("b" * 64)) == Principal(agent_id="a1", role=Role.AGENT)


async def test_the_token_of_another_agent_is_refused(store: Store, clock: StoreClock) -> None:
    await store.tokens.register("a1", role=Role.AGENT)
    await refused(store, store.tokens.register("a2", role=Role.ADMIN, token=TOKEN), TokenExists)
