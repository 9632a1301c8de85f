"""A Redis out of memory: nothing new is admitted, and what is there can still come to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agentcom.domain.tasks import TaskStatus
from agentcom.errors import StoreFull
from agentcom.settings import Settings
from agentcom.store.channels import Viewer
from agentcom.store.store import Store
from agentcom.store.tasks import Swept
from agentcom.store.tokens import Role
from services.local.redis_server import EmbeddedRedis
from tests.support.builders import a_task, an_agent, serve_matches
from tests.support.clock import StoreClock
from tests.support.mail import a_message, ids_in_mailbox, registered
from tests.support.refusals import refused
from tests.support.stages import MINUTE, assigned, dead, working


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A server of the test's own, since its memory is taken away."""
    server = EmbeddedRedis(tmp_path, port=0, persistent=False)
    server.start_blocking()
    yield server.url
    server.stop()


async def fill(store: Store) -> None:
    """From here on there is no memory left."""
    await store.link.call("CONFIG", "SET", "maxmemory", "1")


@pytest.fixture
async def other(store: Store, redis_url: str, namespace: str) -> AsyncIterator[Store]:
    """Another process's store, which connects only now."""
    async with Store(redis_url, Settings(redis_url=redis_url, namespace=namespace), shifted_clock=True) as opened:
        yield opened


async def test_a_submission_is_refused_before_it_has_changed_anything(store: Store, clock: StoreClock) -> None:
    await fill(store)
    keyed = a_task(idempotency_digest="d", body_digest="b")
    error = await refused(store, store.tasks.submit(keyed), StoreFull)
    assert (error.code, error.http_status, error.retryable) == ("store_full", 503, True)


async def test_nothing_else_new_is_admitted(store: Store, clock: StoreClock) -> None:
    agent = await dead(store)
    await fill(store)
    await refused(store, store.tasks.retry("t1"), StoreFull)
    await refused(store, store.tokens.register("a2", role=Role.AGENT), StoreFull)
    await refused(store, store.tokens.mint("a2", role=Role.AGENT), StoreFull)
    await refused(store, store.agents.set_status("a1", conn=agent.conn, status="x"), StoreFull)
    await refused(store, an_agent(store, "a1", conn="newer", token_digest=agent.token_digest), StoreFull)


async def test_no_message_is_taken_and_mailboxes_can_be_emptied(store: Store, clock: StoreClock) -> None:
    await registered(store, "a1", "a2")
    await store.channels.create("c", description="", created_by="a1", private=False, members=())
    await store.channels.subscribe("c", by=Viewer("a2"))
    first = await store.mail.send(a_message("m1"), to="a2")
    await store.mail.broadcast(a_message("m2"))
    await fill(store)
    await refused(store, store.mail.send(a_message(), to="a2"), StoreFull)
    await refused(store, store.mail.broadcast(a_message()), StoreFull)
    await refused(store, store.channels.publish("c", a_message(), privileged=False), StoreFull)
    await refused(store, store.channels.subscribe("c", by=Viewer("a1")), StoreFull)
    assert await ids_in_mailbox(store, "a2") == ["m1", "m2"]
    assert await store.mail.ack("a2", seq=first.seq) == 1
    assert await store.channels.unsubscribe("c", by=Viewer("a2"))
    await store.channels.delete("c", by=Viewer("a1"))


async def test_reports_are_taken(store: Store, clock: StoreClock) -> None:
    for number in range(4):
        await assigned(store, f"t{number}", f"a{number}")
    await fill(store)
    await store.tasks.accept("t0", "a0", generation=1)
    await store.tasks.progress("t0", "a0", generation=1, progress=50)
    done = await store.tasks.complete("t0", "a0", conn="a0-conn", generation=1, result=b'"x"', tokens_used=1)
    failed = await store.tasks.fail("t1", "a1", conn="a1-conn", generation=1, reason="broke")
    await store.tasks.reject("t2", "a2", generation=1, reason="busy")
    await store.tasks.cancel("t3", requester="", privileged=True, reason="no")
    stopped = await store.tasks.confirm_cancel("t3", "a3", conn="a3-conn", generation=1)
    assert (done.outcome, failed.outcome, stopped.outcome) == ("complete", "retried", "cancelled")
    assert (await store.task_reader.get("t0")).result == '"x"'
    assert (await store.tasks.counts()).unaccounted == 0


async def test_deadlines_are_served_and_waiting_tasks_are_handed_out(store: Store, clock: StoreClock) -> None:
    await assigned(store)
    await fill(store)
    await clock.advance(MINUTE)
    assert await store.tasks.reclaim("accept", limit=10) == Swept(1, more=False)
    assert await serve_matches(store) == 1
    await store.agents.heartbeat("a1", conn="a1-conn")
    await store.agents.touch(["a1"])
    await store.gateways.renew("gw", lease_ms=2 * MINUTE)
    assert await store.agents.disconnect("a1", conn="a1-conn", reason="closed")
    await clock.advance(MINUTE)
    assert await store.agents.expire_grace(limit=10) == Swept(1, more=False)


async def test_retention_makes_room(store: Store, clock: StoreClock) -> None:
    agent = await working(store)
    await store.tasks.complete("t1", "a1", conn=agent.conn, generation=1, result=b"1", tokens_used=None)
    await fill(store)
    await clock.advance(7 * 24 * 60 * MINUTE)
    assert await store.tasks.prune("finished", limit=10) == Swept(1, more=False)
    await store.link.call("CONFIG", "SET", "maxmemory", "0")
    assert (await store.tasks.submit(a_task())).status == "queued"


async def test_a_process_that_starts_meanwhile_can_work(store: Store, clock: StoreClock, other: Store) -> None:
    agent = await working(store)
    await fill(store)
    await store.link.call("SCRIPT", "FLUSH")
    report = await other.tasks.complete("t1", "a1", conn=agent.conn, generation=1, result=b"1", tokens_used=None)
    assert report.outcome == "complete"
    assert (await other.task_reader.get("t1")).status is TaskStatus.COMPLETED
