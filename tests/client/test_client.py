"""The client against a real hub: its api and gateway on real sockets."""

from __future__ import annotations

import asyncio
import email.utils
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from agentcom.store.tokens import Role
from agentcom_client import AsyncClient, Client, HubError, HubUnreachable, WaitTimeout, trial
from services.api.app import create_app as create_api
from services.runtime import Supervisor
from services.ws_gateway.app import create_app
from services.ws_gateway.service import socket_server
from tests.services.ws_gateway.support import GatewayHub
from tests.support.eventually import eventually
from tests.support.ports import free_port


class WholeHub(GatewayHub):
    """The api and the gateway on one port."""

    async def __aenter__(self) -> WholeHub:
        await super().__aenter__()
        app = create_app(self.gateway, fallback=create_api(self.store, self.settings))
        server = socket_server(app, self.settings.model_copy(update={"port": free_port()}), self.gateway)
        self.http = Supervisor("api", [server])
        self.serving = asyncio.create_task(self.http.run())
        await self.http.wait_ready()
        self.api_url = f"http://127.0.0.1:{server.port}"
        self.admin = await self.store.tokens.mint("admin", role=Role.ADMIN)
        return self

    async def __aexit__(self, *error: object) -> None:
        self.http.request_stop("the test is over")
        await self.serving
        await super().__aexit__(*error)


def answered_by(serve: Callable[[httpx.Request], httpx.Response]) -> AsyncClient:
    """A client whose requests go to a function."""
    client = AsyncClient("http://hub")
    client._http._transport = httpx.MockTransport(serve)
    return client


@pytest.fixture
async def hub(redis_url: str, namespace: str) -> AsyncIterator[WholeHub]:
    async with WholeHub(redis_url, namespace, rate_heavy=0) as hub:
        yield hub


@pytest.fixture
async def client(hub: WholeHub) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(hub.api_url, token=hub.admin) as client:
        yield client


async def test_a_task_from_submission_to_result(hub: WholeHub, client: AsyncClient) -> None:
    worker = await hub.agent("w1")
    task_id = await client.submit("do it", priority="high")
    waiting = asyncio.create_task(client.wait(task_id, timeout=20))
    await worker.finish(await worker.until("task_assign"), result={"answer": 42})
    task = await waiting
    assert (task["status"], task["result"], task["priority"]) == ("completed", {"answer": 42}, 1)
    assert [found["id"] for found in (await client.tasks(status="completed"))["tasks"]] == [task_id]


async def test_the_synchronous_client_does_the_same(hub: WholeHub) -> None:
    def use() -> None:
        with Client(hub.api_url, token=hub.admin) as client:
            task_id = client.submit("do it", target_agent="w9")
            with pytest.raises(WaitTimeout):
                client.wait(task_id, timeout=0.1)
            assert client.cancel(task_id, reason="changed my mind") == "cancelled"
            assert client.wait(task_id)["status"] == "cancelled"
            assert client.tasks(status="dead_letter")["tasks"] == []
            with pytest.raises(HubError) as caught:
                client.retry(task_id)
            assert (caught.value.status, caught.value.code) == (404, "task_not_found")
            token = client.create_token("n1", role="operator")
            assert {entry["agent_id"] for entry in client.tokens()} >= {"n1", "admin"}
            assert len(token) == 64
            assert client.revoke_tokens("n1") == 1
            assert client.set_config("default-repo", {"url": "u"})["default_repo"] == "u"
            assert client.config("default-repo")["configured"] is True
            assert client.agents() == []

    await asyncio.to_thread(use)


async def test_messages_and_channels_reach_an_agent(hub: WholeHub, client: AsyncClient) -> None:
    token = await hub.token("w1")
    async with AsyncClient(hub.api_url, token=token) as agent:
        frames: list[dict[str, Any]] = []

        async def listen() -> None:
            async for frame in agent.events("w1", presence=True):
                frames.append(frame)
                if frame["type"] == "channel_message":
                    return

        listening = asyncio.create_task(listen())

        async def is_there() -> bool:
            return bool(await client.agents())

        await eventually(is_there)
        assert await client.create_channel("news", description="All there is") == "news"
        await agent.subscribe("news")
        sent = await client.send({"text": "hi"}, to="w1", kind="note")
        posted = await client.publish("news", {"n": 1})
        await asyncio.wait_for(listening, 20)
        told = {frame["type"]: frame for frame in frames}
        assert (told["message"]["id"], told["message"]["payload"]) == (sent, {"text": "hi"})
        assert (told["channel_message"]["id"], told["channel_message"]["payload"]) == (posted["id"], {"n": 1})
        assert posted["seq"] == 1
        assert [post["seq"] for post in await agent.channel_history("news")] == [1]
        assert sent in [message["id"] for message in await client.messages(newest_first=True)]
        assert [channel["name"] for channel in await agent.channels()] == ["news"]
        await agent.unsubscribe("news")


async def test_mail_waits_until_it_is_acknowledged(hub: WholeHub, client: AsyncClient) -> None:
    async with AsyncClient(hub.api_url, token=await hub.token("w1")) as agent:
        sent = await client.send({"n": 1}, to="w1")
        [mail] = await agent.mailbox("w1")
        assert mail["id"] == sent
        await agent.ack("w1", mail["seq"])
        assert await agent.mailbox("w1") == []


async def test_an_agent_that_is_refused_is_told_why(hub: WholeHub) -> None:
    async with AsyncClient(hub.api_url, token="f" * 64) as stranger:
        with pytest.raises(HubError, match="invalid_token"):
            async for _ in stranger.events("w1"):
                pass


async def test_an_unknown_recipient_is_an_error(client: AsyncClient) -> None:
    with pytest.raises(HubError) as caught:
        await client.send({}, to="nobody")
    assert (caught.value.status, caught.value.code) == (404, "unknown_agent")


async def test_no_hub() -> None:
    async with AsyncClient(f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(HubUnreachable):
            await client.task("t1")


@pytest.mark.parametrize("status", [429, 503])
async def test_a_hub_that_asks_to_wait_is_asked_again(status: int) -> None:
    answers = [httpx.Response(status, json={"error": "later"}), httpx.Response(200, json={"agents": []})]
    seen: list[bytes] = []

    def serve(request: httpx.Request) -> httpx.Response:
        seen.append(request.content)
        return answers.pop(0)

    client = answered_by(serve)
    assert await client.agents() == []
    assert len(seen) == 2


async def test_what_is_not_repeatable_is_asked_again_if_nothing_was_done() -> None:
    answers = [httpx.Response(429, json={"error": "rate_limited"}), httpx.Response(200, json={"status": "requeued"})]
    client = answered_by(lambda _: answers.pop(0))
    await client.retry("t1")
    assert answers == []


async def test_a_hub_that_asks_for_a_long_pause_is_not_waited_for() -> None:
    client = answered_by(lambda _: httpx.Response(429, json={"error": "rate_limited"}, headers={"retry-after": "31"}))
    with pytest.raises(HubError, match="rate_limited"):
        await client.agents()


@pytest.mark.parametrize(
    ("attempts", "maybe_done"),
    [
        ([httpx.ConnectError], False),
        ([429], False),
        ([404], False),
        ([301], False),
        ([429, httpx.ConnectError], False),
        ([200], True),
        ([500], True),
        ([httpx.ReadError], True),
        ([httpx.ReadError, httpx.ConnectError], True),
        ([httpx.ReadTimeout, 409], True),
        ([503, 409], True),
    ],
    ids=str,
)
async def test_whether_any_attempt_was_perhaps_carried_out_is_said(
    attempts: list[int | type[httpx.TransportError]], maybe_done: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "FIRST_PAUSE_S", 0.0)
    left = list(attempts)

    def serve(request: httpx.Request) -> httpx.Response:
        attempt = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(attempt, int):
            return httpx.Response(attempt, json={"error": "no"})
        raise attempt("broken", request=request)

    with pytest.raises((HubError, HubUnreachable)) as caught:
        await answered_by(serve).register("w1")
    assert len(left) == 1, "it gave up too early"
    assert isinstance(caught.value, HubError | HubUnreachable)
    assert caught.value.maybe_done is maybe_done


async def test_what_may_have_been_done_is_not_repeated_after_an_attempt_that_had_no_effect() -> None:
    attempts = [httpx.ConnectError, httpx.ReadError, httpx.ConnectError]

    def serve(request: httpx.Request) -> httpx.Response:
        raise attempts.pop(0)("broken", request=request)

    with pytest.raises(HubUnreachable, match="does not answer: broken") as caught:
        await answered_by(serve).retry("t1")
    assert (len(attempts), caught.value.maybe_done) == (1, True)


async def test_the_first_hub_which_says_less_is_understood() -> None:
    answers: dict[tuple[str, str], dict[str, Any]] = {
        ("GET", "/health"): {"status": "ok", "service": "agent_com", "agents_connected": 3},
        ("POST", "/api/onboard/register"): {"agent_id": "w1", "token": "t", "hub_ws_url": "ws://hub/ws"},
        ("DELETE", "/admin/tokens/w1"): {"status": "revoked", "agent_id": "w1"},
        ("POST", "/api/tasks"): {"status": "queued", "task_id": "t1", "priority": 2, "created_at": 1},
    }
    client = answered_by(lambda request: httpx.Response(200, json=answers[request.method, request.url.path]))
    assert (await client.health()).get("missing") is None
    assert client.clock_skew is None
    assert (await client.register("w1"))["token"] == "t"
    assert await client.revoke_tokens("w1") is None
    assert (await client.submit_task("x"))["task_id"] == "t1"


async def test_the_health_of_a_hub_without_its_store_is_an_answer() -> None:
    unwell = {"status": "unavailable", "service": "agent_com"}
    client = answered_by(lambda _: httpx.Response(503, json=unwell))
    assert await client.health() == unwell


async def test_how_far_the_clocks_are_apart_is_known(client: AsyncClient) -> None:
    assert (await client.health())["service"] == "agent_com"
    assert client.clock_skew is not None
    assert abs(client.clock_skew) < 60
    date = email.utils.format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
    other = answered_by(lambda _: httpx.Response(200, json={"agents": []}, headers={"date": date}))
    await other.agents()
    assert other.clock_skew is not None
    assert other.clock_skew == pytest.approx(3600, abs=60)


async def test_what_is_not_repeatable_is_done_once() -> None:
    count = 0

    def serve(_request: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        return httpx.Response(503, json={"error": "store_unavailable", "message": "Try again."})

    client = answered_by(serve)
    with pytest.raises(HubError):
        await client.retry("t1")
    assert count == 1


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (httpx.Response(200, json={"hello": 1}), HubUnreachable),
        (httpx.Response(200, text="<html>"), HubUnreachable),
        (httpx.Response(200, json=["task_id"]), HubUnreachable),
        (httpx.Response(301, headers={"location": "https://hub/"}), HubUnreachable),
        (httpx.Response(502, text="<html>"), HubError),
    ],
)
async def test_an_answer_of_something_else_is_said(response: httpx.Response, said: type[Exception]) -> None:
    client = answered_by(lambda _: response)
    with pytest.raises(said) as caught:
        await client.submit("x")
    if isinstance(caught.value, HubError):
        assert caught.value.code == "http_502"


async def test_a_registration_is_repeated_with_the_same_token() -> None:
    seen: list[bytes] = []

    def serve(request: httpx.Request) -> httpx.Response:
        seen.append(request.content)
        if len(seen) == 1:
            raise httpx.ReadError("gone")
        return httpx.Response(201, json={"agent_id": "w1", "token": "t"})

    client = answered_by(serve)
    assert (await client.register("w1"))["token"] == "t"
    assert seen[0] == seen[1]
