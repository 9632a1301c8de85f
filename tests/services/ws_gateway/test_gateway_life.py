"""Leases, outages, slow clients, shutdown: what happens to sockets when things go wrong around them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
import structlog
import websockets
from websockets.asyncio.client import connect

from agentcom.settings import Settings
from agentcom.store.store import Store
from agentcom.store.tokens import Role
from services.local.redis_server import EmbeddedRedis
from services.ws_gateway.liveness import Liveness
from services.ws_gateway.session import Phase
from tests.services.ws_gateway.support import Client, GatewayHub
from tests.support.eventually import eventually
from tests.support.hub import HubProcesses
from tests.support.proxy import LossyProxy

WIDE = tuple(f"{number:03d}{'x' * 120}" for number in range(100))


class TestLease:
    async def test_a_gateway_that_lost_its_lease_lets_go_of_everybody_and_begins_anew(
        self, redis_url: str, namespace: str
    ) -> None:
        async with GatewayHub(redis_url, namespace, gateway_lease_ms=600) as hub:
            clients = [await hub.agent(f"a{number}") for number in range(3)]
            stranger = await hub.stranger()
            lost = hub.gateway.lease.gateway
            await hub.store.blocking.zadd(hub.store.keys.gateways(), {lost: 1})
            for client in [*clients, stranger]:
                assert (await client.closed())[0] == 4002
            await eventually(lambda: hub.gateway.accepting)
            assert hub.gateway.lease.gateway != lost
            back = await hub.agent("a0")
            task_id = await hub.submit()
            assert (await back.until("task_assign"))["task_id"] == task_id

    async def test_a_gateway_that_cannot_renew_in_time_does_not_wait_to_be_told(
        self, durable_redis: EmbeddedRedis, namespace: str
    ) -> None:
        async with GatewayHub(durable_redis.url, namespace, gateway_lease_ms=600) as hub:
            client = await hub.agent("a1")
            lost = hub.gateway.lease.gateway
            durable_redis.kill()
            assert (await client.closed())[0] == 4002
            assert not hub.gateway.accepting
            with pytest.raises(websockets.InvalidStatus) as refusal:
                await connect(hub.url, proxy=None)
            assert refusal.value.response.status_code == 503
            await durable_redis.start()
            await eventually(lambda: hub.gateway.accepting)
            await eventually(lambda: hub.store.link.connected)
            assert hub.gateway.lease.gateway != lost
            await hub.agent("a1")

    async def test_the_lease_is_given_back_at_the_end(self, redis_url: str, namespace: str) -> None:
        async with GatewayHub(redis_url, namespace) as hub:
            gateway = hub.gateway.lease.gateway
        async with Store(redis_url, Settings(namespace=namespace)) as store:
            while (await store.gateways.expire(limit=10)).more:
                pass
            assert await store.blocking.zscore(store.keys.gateways(), gateway) is None


class TestOutages:
    @pytest.mark.usefixtures("patient_calls")
    async def test_a_short_one_is_survived_with_socket_and_task(
        self, durable_redis: EmbeddedRedis, namespace: str
    ) -> None:
        async with GatewayHub(durable_redis.url, namespace, gateway_lease_ms=60_000) as hub:
            client = await hub.agent("a1")
            task_id = await hub.submit()
            frame = await client.until("task_assign")
            durable_redis.kill()
            await client.send({"type": "task_complete", "task_id": task_id, "generation": frame["generation"]})
            await client.send({"type": "ping"})
            await durable_redis.start()
            assert (await client.until("task_ack"))["status"] == "complete"
            await client.until("pong")
            second = await hub.submit()
            assert (await client.until("task_assign"))["task_id"] == second

    @pytest.mark.parametrize("how", ["silent", "gone"])
    async def test_a_ping_is_answered_without_the_store(
        self, proxy: LossyProxy, proxy_url: str, namespace: str, how: Literal["silent", "gone"]
    ) -> None:
        async with GatewayHub(proxy_url, namespace, gateway_lease_ms=60_000) as hub:
            client = await hub.agent("a1")
            proxy.hold()
            if how == "gone":
                proxy.refuse()
                proxy.cut()
            await client.send({"type": "list_agents"})
            await client.send({"type": "ping"})
            pong = await client.receive()
            assert (pong["type"], type(pong["timestamp"])) == ("pong", int)
            proxy.release()
            await eventually(lambda: hub.gateway_store.link.connected)
            await client.until("agents", "error")

    async def test_pushes_go_on_where_they_stopped(self, hub: GatewayHub) -> None:
        """Also when the reader's own connection is cut again and again."""
        client = await hub.agent("a1")
        for _ in range(5):
            await hub.store.blocking.client_kill_filter(_type="normal", skipme=True)
            await hub.submit()
            frame = await client.until("task_assign")
            assert (await client.finish(frame))["status"] == "complete"

    async def test_what_was_handed_over_is_removed_from_the_outbox(self, hub: GatewayHub) -> None:
        client = await hub.agent("a1")
        outbox = hub.store.keys.outbox(hub.gateway.lease.gateway)
        for _ in range(3):
            await hub.submit()
            await client.finish(await client.until("task_assign"))

        async def trimmed() -> bool:
            await hub.submit()
            await client.finish(await client.until("task_assign"))
            return await hub.store.blocking.xlen(outbox) <= 1

        await eventually(trimmed)


class TestSlowClients:
    @pytest.fixture
    async def crowd(self, redis_url: str, namespace: str) -> AsyncIterator[GatewayHub]:
        """A gateway with a small queue for each socket, and agents whose list is long."""
        async with GatewayHub(redis_url, namespace, outbound_queue_frames=50) as hub:
            for number in range(5):
                await hub.agent(f"wide{number}", capabilities=WIDE)
            yield hub

    async def test_one_that_reads_again_learns_why_it_was_disconnected(self, crowd: GatewayHub) -> None:
        slow, other = await self._slow(crowd), await crowd.agent("other")
        sending = asyncio.create_task(_ask_without_end(slow))

        async def disconnected() -> bool:
            return "slow" not in await crowd.agent_ids()

        await eventually(disconnected, timeout=30)
        assert (await other.ask({"type": "ping"}, "pong"))["type"] == "pong"
        sending.cancel()
        assert (await slow.closed())[0] == 4000

    async def test_one_that_never_reads_is_cut_off(self, crowd: GatewayHub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("services.ws_gateway.connection.CLOSE_PATIENCE_S", 0.2)
        slow = await self._slow(crowd)
        sending = asyncio.create_task(_ask_without_end(slow))
        await eventually(lambda: len(crowd.gateway.registry.sockets()) == 5, timeout=30)
        sending.cancel()

    async def test_its_task_is_pushed_again_when_it_comes_back(self, crowd: GatewayHub) -> None:
        slow = await self._slow(crowd)
        task_id = await crowd.submit(target_agent="slow")
        sending = asyncio.create_task(_ask_without_end(slow))
        await eventually(lambda: crowd.gateway.registry.agent_count == 5, timeout=30)
        sending.cancel()
        await crowd.gateway.departures.settled()
        back = await crowd.agent("slow")
        assert (await back.until("task_assign"))["task_id"] == task_id

    async def test_presence_is_left_out_before_anybody_is_disconnected_for_it(self, hub: GatewayHub) -> None:
        await hub.agent("a1")
        (connection,) = hub.gateway.registry.agents()
        # Without giving the writer a turn.
        for _ in range(hub.settings.outbound_queue_frames * 2):
            connection.offer(b'{"type":"agent_left","agent_id":"a2"}')
        assert connection.waiting_frames <= hub.settings.outbound_queue_frames // 2 + 1
        assert connection.session.phase is Phase.IDENTIFIED

    async def _slow(self, hub: GatewayHub) -> Client:
        """An agent that does not read."""
        client = await hub.stranger(max_queue=1)
        await client.ask({"type": "identify", "agent_id": "slow", "token": await hub.token("slow")}, "identified")
        return client


async def _ask_without_end(client: Client) -> None:
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            await client.send({"type": "list_agents"})
            await asyncio.sleep(0)


class TestLiveness:
    async def test_an_open_socket_counts_as_alive(self, hub: GatewayHub) -> None:
        await hub.agent("a1")
        await hub.store.blocking.zadd(hub.store.keys.seen(), {"a1": 1})
        stop = asyncio.Event()
        liveness = Liveness(hub.gateway_store.agents, registry=hub.gateway.registry, interval_s=0.01)
        running = asyncio.create_task(liveness.run(stop))

        async def seen() -> bool:
            return ((await hub.store.agents.get("a1")).last_seen or 0) > 1

        await eventually(seen)
        stop.set()
        await running

    async def test_one_that_the_store_has_given_up_is_closed_and_may_come_back(self, hub: GatewayHub) -> None:
        """Its order to close was lost, so that only its next ping tells."""
        token = await hub.token("a1")
        client = await hub.agent("a1", token=token)
        (connection,) = hub.gateway.registry.agents()
        await hub.store.agents.disconnect("a1", conn=connection.conn, reason="stale")
        await client.send({"type": "ping"})
        await eventually(lambda: connection.session.orphaned)
        stop = asyncio.Event()
        liveness = Liveness(hub.gateway_store.agents, registry=hub.gateway.registry, interval_s=0.01)
        running = asyncio.create_task(liveness.run(stop))
        assert (await client.closed())[0] == 4001
        stop.set()
        await running
        await hub.agent("a1", token=token)

    async def test_an_evicted_agent_is_told(self, hub: GatewayHub) -> None:
        client = await hub.agent("a1")
        await hub.store.blocking.zadd(hub.store.keys.seen(), {"a1": 1})
        await hub.store.agents.evict(stale_ms=1_000, limit=10)
        assert (await client.closed())[0] == 4001


class TestShutdown:
    async def test_answers_on_their_way_are_written_before_the_goodbye(
        self, hub: GatewayHub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = await hub.agent("a1")
        await hub.submit()
        frame = await client.until("task_assign")
        tasks = hub.gateway_store.tasks
        complete = tasks.complete

        async def slowly(*args: Any, **kwargs: Any) -> Any:
            hub.supervisor.request_stop("test")
            await asyncio.sleep(0.1)
            return await complete(*args, **kwargs)

        monkeypatch.setattr(tasks, "complete", slowly)
        await client.send({"type": "task_complete", "task_id": frame["task_id"], "generation": frame["generation"]})
        assert (await client.until("task_ack"))["status"] == "complete"
        assert (await client.closed())[0] == 1012
        await hub.running
        assert await hub.agent_ids() == []

    async def test_a_terminated_process_says_goodbye_and_ends_well(self, tmp_path: Path) -> None:
        hub = HubProcesses(tmp_path, copies={"ws_gateway": 1})
        try:
            await hub.start()
            async with hub.store() as store:
                clients = []
                for number in range(20):
                    token = await store.tokens.register(f"a{number}", role=Role.AGENT)
                    client = Client(await connect(hub.socket_urls[0], proxy=None))
                    await client.ask({"type": "identify", "agent_id": f"a{number}", "token": token}, "identified")
                    clients.append(client)
                hub.one("ws_gateway").terminate()
                codes = await asyncio.gather(*[client.closed() for client in clients])
                assert {code for code, _ in codes} == {1012}
                assert await hub.one("ws_gateway").wait(timeout=10) == 0
                assert (await store.agents.page(cursor=None, limit=10)).agents == []
            lines = hub.one("ws_gateway").logged("session_ended")
            assert {line["agent_id"] for line in lines} == {f"a{number}" for number in range(20)}
            assert {(line["closed_by"], line["close_code"]) for line in lines} == {("hub", 1012)}
            assert hub.defects() == []
        finally:
            hub.stop()


async def test_a_session_is_summed_up_in_one_line(hub: GatewayHub) -> None:
    with structlog.testing.capture_logs() as logs:
        client = await hub.agent("a1")
        await hub.submit()
        assert (await client.finish(await client.until("task_assign")))["status"] == "complete"
        await client.socket.close(reason="done")
        await eventually(lambda: [line for line in logs if line["event"] == "session_ended"] != [])
    (line,) = [line for line in logs if line["event"] == "session_ended"]
    assert (line["agent_id"], line["frames_in"], line["frames_out"]) == ("a1", 3, 4)
    assert (line["tasks_completed"], line["tasks_failed"]) == (1, 0)
    assert (line["closed_by"], line["close_code"], line["close_reason"]) == ("client", 1000, "done")
    assert line["bytes_in"] > 0
    assert line["bytes_out"] > 0
