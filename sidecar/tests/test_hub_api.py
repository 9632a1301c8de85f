"""What the commands make of the hub's answers: failures with exit codes, and the answers that only they want."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from agentcom_sidecar import __version__
from agentcom_sidecar.failure import ExitCode, Failure
from agentcom_sidecar.hub_address import HubAddress
from agentcom_sidecar.hub_api import HubApi, HubRefused, HubUnreachable

HUB = HubAddress("http://hub")
TOKEN = "263a4b4f" + "0" * 56


def api_of(serve: Callable[[httpx.Request], httpx.Response]) -> HubApi:
    """Asks a function."""
    api = HubApi(HUB, token=TOKEN)
    api._http._transport = httpx.MockTransport(serve)
    return api


def answering(status: int, body: object) -> HubApi:
    return api_of(lambda _: httpx.Response(status, json=body))


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (401, "unauthorized", ExitCode.NO_PERMISSION),
        (403, "forbidden", ExitCode.NO_PERMISSION),
        (404, "task_not_found", ExitCode.FAILED),
        (500, "internal_error", ExitCode.UNAVAILABLE),
    ],
)
def test_a_refusal_has_the_hubs_code_and_an_exit_code(status: int, code: str, exit_code: ExitCode) -> None:
    with pytest.raises(HubRefused) as caught:
        answering(status, {"error": code, "message": "Not so."}).task("t1")
    assert (caught.value.code, caught.value.exit_code, caught.value.status) == (code, exit_code, status)
    assert str(caught.value) == f"The hub refused: Not so. (HTTP {status})"


def test_a_refusal_without_a_message_is_told_by_its_code() -> None:
    with pytest.raises(HubRefused, match=r"The hub refused: agent_id already registered \(HTTP 409\)"):
        answering(409, {"error": "agent_id already registered"}).register("w1")


def test_no_answer_is_a_sentence_with_advice() -> None:
    def broken(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("Server disconnected without sending a response.")

    with pytest.raises(HubUnreachable) as caught:
        api_of(broken).create_token("w1")
    assert str(caught.value) == "The hub at http://hub does not answer: Server disconnected without sending a response."
    assert (caught.value.code, caught.value.exit_code) == ("hub_unreachable", ExitCode.UNAVAILABLE)
    assert caught.value.maybe_done
    assert caught.value.advice
    with pytest.raises(HubUnreachable) as caught:
        answering(200, {"hello": 1}).agents()
    assert str(caught.value) == "What answers at http://hub is no hub."


def test_another_service_is_no_hub() -> None:
    for body in ({"status": "ok"}, {"status": "ok", "service": "other"}):
        with pytest.raises(HubUnreachable, match="not an AgentCom hub"):
            answering(200, body).checked_health()


def test_the_hub_is_told_who_asks() -> None:
    def serve(request: httpx.Request) -> httpx.Response:
        assert request.headers["user-agent"] == f"agentcom-sidecar/{__version__}"
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        return httpx.Response(200, json={"agents": []})

    assert api_of(serve).agents() == []


@pytest.mark.parametrize(
    ("entries", "owner"),
    [
        ([("w1", "263a4b4f..."), ("w2", "ffffffff...")], "w1"),
        ([("w1", "263a4b4f..."), ("w2", "263a4b4f...")], None),
        ([("w2", "ffffffff...")], None),
    ],
)
def test_whose_token_it_is(entries: list[tuple[str, str]], owner: str | None) -> None:
    tokens = [{"agent_id": agent, "token_prefix": prefix} for agent, prefix in entries]
    assert answering(200, {"tokens": tokens}).token_owner(TOKEN) == owner


def test_an_agent_that_is_not_connected_has_no_state() -> None:
    assert answering(404, {"error": "agent_not_found"}).state_of("w1") is None
    state = answering(200, {"agent_id": "w1", "fsm_state": "idle"}).state_of("w1")
    assert state is not None
    assert state["fsm_state"] == "idle"
    with pytest.raises(HubRefused):
        answering(403, {"error": "forbidden"}).state_of("w1")


def test_what_cannot_be_used_is_refused_without_showing_a_secret(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"The CA file .*none\.pem cannot be used") as caught:
        HubApi(HUB, ca_file=tmp_path / "none.pem")
    assert (caught.value.code, caught.value.exit_code) == ("invalid_ca_file", ExitCode.USAGE)
    with pytest.raises(Failure, match="token") as caught:
        HubApi(HUB, token="sécret")
    assert (caught.value.exit_code, "cret" in str(caught.value)) == (ExitCode.USAGE, False)
