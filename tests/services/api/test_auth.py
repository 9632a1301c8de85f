"""Remembering tokens: never past a revocation."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from agentcom.settings import Settings
from agentcom.store.store import Store
from agentcom.store.tokens import Principal, Role
from services.api.auth import Authenticator, RevocationListener, authenticator_for
from services.local.redis_server import EmbeddedRedis
from services.runtime import Supervisor
from tests.services.api.harness import opened, refused
from tests.support.eventually import eventually

WORKER = Principal("w1", Role.AGENT)


class Tokens:
    """A store of tokens that counts lookups and can be held up."""

    def __init__(self) -> None:
        self.lookups = 0
        self.found: Principal | None = WORKER
        self.open = asyncio.Event()
        self.open.set()

    async def find(self, _token_digest: str) -> Principal | None:
        self.lookups += 1
        found = self.found
        await self.open.wait()
        return found


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
def authenticator(tokens: Tokens) -> Authenticator:
    authenticator = Authenticator(tokens, ttl_ms=60_000, max_entries=3)
    authenticator.trust()
    return authenticator


async def test_a_token_is_looked_up_once(authenticator: Authenticator, tokens: Tokens) -> None:
    assert [await authenticator.find("t") for _ in range(3)] == [WORKER] * 3
    assert tokens.lookups == 1


async def test_unknown_tokens_are_looked_up_each_time(authenticator: Authenticator, tokens: Tokens) -> None:
    tokens.found = None
    assert [await authenticator.find("t") for _ in range(3)] == [None] * 3
    assert tokens.lookups == 3


async def test_nothing_is_remembered_while_revocations_are_not_heard_of(tokens: Tokens) -> None:
    authenticator = Authenticator(tokens, ttl_ms=60_000)
    await authenticator.find("t")
    await authenticator.find("t")
    assert tokens.lookups == 2


async def test_losing_touch_and_finding_it_again_forgets_all(authenticator: Authenticator, tokens: Tokens) -> None:
    await authenticator.find("t")
    authenticator.distrust()
    await authenticator.find("t")
    authenticator.trust()
    await authenticator.find("t")
    await authenticator.find("t")
    assert tokens.lookups == 3


async def test_memory_ends(tokens: Tokens) -> None:
    authenticator = Authenticator(tokens, ttl_ms=0)
    authenticator.trust()
    await authenticator.find("t")
    await authenticator.find("t")
    assert tokens.lookups == 2


async def test_memory_is_bounded(authenticator: Authenticator, tokens: Tokens) -> None:
    for n in range(4):
        await authenticator.find(f"t{n}")
    await authenticator.find("t3")
    assert tokens.lookups == 4
    await authenticator.find("t0")
    assert tokens.lookups == 5


async def test_a_revocation_forgets_the_agents_tokens_only(authenticator: Authenticator, tokens: Tokens) -> None:
    await authenticator.find("mine")
    tokens.found = Principal("w2", Role.AGENT)
    await authenticator.find("other")
    authenticator.forget("w1")
    await authenticator.find("other")
    assert tokens.lookups == 2
    await authenticator.find("mine")
    assert tokens.lookups == 3


@pytest.mark.parametrize("event", ["revocation", "reconnection"])
async def test_an_answer_from_before_a_revocation_is_not_remembered(
    authenticator: Authenticator, tokens: Tokens, event: str
) -> None:
    tokens.open.clear()
    lookup = asyncio.create_task(authenticator.find("t"))
    await eventually(lambda: tokens.lookups == 1)
    if event == "revocation":
        authenticator.forget("w1")
    else:
        authenticator.trust()
    tokens.open.set()
    assert await lookup == WORKER
    tokens.found = None
    assert await authenticator.find("t") is None


async def test_a_revocation_reaches_every_process_at_once(redis_url: str, settings: Settings) -> None:
    """Two APIs that remember tokens for an hour; the token is revoked through one of them."""
    patient = settings.model_copy(update={"auth_cache_ttl_ms": 3_600_000})
    async with AsyncExitStack() as stack:
        apis = []
        for _ in range(2):
            authenticators: list[Authenticator] = []

            def remembering(store: Store, made: list[Authenticator] = authenticators) -> Authenticator:
                made.append(authenticator_for(store.tokens, patient))
                return made[0]

            api = await stack.enter_async_context(opened(redis_url, patient, authenticator=remembering))
            supervisor = Supervisor("api", [RevocationListener(api.store.gateways, authenticators[0])])
            running = asyncio.create_task(supervisor.run())
            stack.push_async_callback(asyncio.wait_for, running, 10)
            stack.callback(supervisor.request_stop, "test")
            apis.append((api, authenticators[0]))
        (first, _), (second, memory) = apis
        token = await first.token("w2")
        await eventually(lambda: memory._trusted)
        assert (await second("GET", "/api/tasks", token=token)).status_code == 200
        await eventually(lambda: len(memory._remembered) > 0)
        await first("DELETE", "/admin/tokens/w2", token=first.admin)

        async def revoked() -> None:
            refused(await second("GET", "/api/tasks", token=token), 401, "unauthorized")

        await eventually(revoked)
        assert (await second("GET", "/api/tasks", token=second.admin)).status_code == 200


async def test_the_listener_outlasts_an_outage(durable_redis: EmbeddedRedis, settings: Settings) -> None:
    async with Store(durable_redis.url, settings) as store:
        authenticator = authenticator_for(store.tokens, settings)
        supervisor = Supervisor("api", [RevocationListener(store.gateways, authenticator)])
        running = asyncio.create_task(supervisor.run())
        await eventually(lambda: authenticator._trusted)
        durable_redis.kill()
        await eventually(lambda: not authenticator._trusted)
        await durable_redis.start()
        await eventually(lambda: authenticator._trusted, timeout=30)
        supervisor.request_stop("test")
        await running
