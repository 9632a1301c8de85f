"""How the client reaches a hub: address, token, its own name, and a certificate that only a CA file vouches for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

import pytest
import trustme
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from agentcom_client import AsyncClient, Client, HubError, HubUnreachable

AUTHORITY = trustme.CA()
CERTIFICATE = AUTHORITY.issue_cert("127.0.0.1")


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of the authority that vouches for the hubs here."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(path)
    return path


class Hub:
    """Knows no agents, greets everybody who connects."""

    def __init__(self, greeting: str = '{"type": "message"}') -> None:
        self.user_agents: set[str] = set()
        self.greeting = greeting

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        self.user_agents.add(request.headers["user-agent"])
        if request.path == "/ws":
            return None
        response = connection.respond(HTTPStatus.OK, '{"agents": []}')
        response.headers["connection"] = "close"
        return response

    async def greet(self, socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(self.greeting)


@contextlib.asynccontextmanager
async def serving(hub: Hub, *, tls: bool) -> AsyncIterator[str]:
    """Its address."""
    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        CERTIFICATE.configure_cert(context)
    async with serve(hub.greet, "127.0.0.1", 0, ssl=context, process_request=hub.answer) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        yield f"{'HTTPS' if tls else 'HTTP'}://127.0.0.1:{port}/"  # as it may be typed


@pytest.mark.parametrize("tls", [False, True])
async def test_requests_and_events_go_the_same_way(tls: bool, ca_file: Path) -> None:
    hub = Hub()
    async with (
        serving(hub, tls=tls) as url,
        AsyncClient(url, trust_env=False, ca_file=ca_file, user_agent="robot/1") as client,
    ):
        assert await client.agents() == []
        assert [frame["type"] async for frame in client.events("w1")] == ["message"]

        def ask() -> None:
            with Client(url, trust_env=False, ca_file=str(ca_file), user_agent="robot/1") as synchronous:
                assert synchronous.agents() == []

        await asyncio.to_thread(ask)
    assert hub.user_agents == {"robot/1"}


async def test_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    hub = Hub()
    async with serving(hub, tls=True) as url, AsyncClient(url, trust_env=False) as client:
        with pytest.raises(HubUnreachable, match=r"cannot be reached.*CERTIFICATE_VERIFY_FAILED") as caught:
            await client.register("w1")
        assert not caught.value.maybe_done
        with pytest.raises(HubUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
            await anext(client.events("w1"))
    assert hub.user_agents == set()


@pytest.mark.parametrize(
    ("code", "status"), [("invalid_token", 401), ("store_unavailable", 503), ("validation_failed", 422)]
)
async def test_a_refused_identify_has_the_status_that_it_has_over_http(code: str, status: int) -> None:
    greeting = json.dumps({"type": "error", "request_type": "identify", "code": code, "message": "No."})
    async with serving(Hub(greeting), tls=False) as url, AsyncClient(url, trust_env=False) as client:
        with pytest.raises(HubError) as caught:
            await anext(client.events("w1"))
    assert (caught.value.status, caught.value.code) == (status, code)


@pytest.mark.parametrize("greeting", ["hello", "[]"])
async def test_something_else_on_a_socket_is_said(greeting: str) -> None:
    async with serving(Hub(greeting), tls=False) as url, AsyncClient(url, trust_env=False) as client:
        with pytest.raises(HubUnreachable, match="no hub"):
            await anext(client.events("w1"))


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_ca_file_that_cannot_be_used_is_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    for kind in (Client, AsyncClient):
        with pytest.raises(OSError, match=r"No such file|NO_CERTIFICATE|no start line"):
            kind("https://hub", ca_file=file)


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("foo", None),
        ("ftp://hub", None),
        ("http://", None),
        ("http://hub:99999", None),
        ("http://hub?x=1", None),
        ("http://bob:secret@hub", None),
        ("http://hub", "se\ncret"),
        ("http://hub", "secret "),
        ("http://hub", "sécret"),
    ],
)
def test_what_is_no_address_or_no_token_is_refused_before_it_is_sent(url: str, token: str | None) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match=r"address|token") as caught:
            kind(url, token=token)
        assert "cret" not in str(caught.value)
