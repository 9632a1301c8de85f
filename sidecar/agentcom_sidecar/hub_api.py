"""The hub's HTTP interface, as far as the commands need it."""

import email.utils
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from agentcom_sidecar import __version__
from agentcom_sidecar.failure import ExitCode, Failure
from agentcom_sidecar.hub_address import HubAddress

TIMEOUT = 15.0
LONGEST_WAIT = 30.0
"""Seconds: a hub that asks for a longer pause than this is taken at its word, and the command fails."""
ATTEMPTS = 4


class HubUnreachable(Failure):
    """No usable answer. ``maybe_done``: the request may have been carried out all the same."""

    def __init__(self, sentence: str, *, maybe_done: bool) -> None:
        super().__init__(
            sentence,
            code="hub_unreachable",
            exit_code=ExitCode.UNAVAILABLE,
            advice=("Check the address, and that the hub is running.",),
        )
        self.maybe_done = maybe_done


class HubRefused(Failure):
    """The hub answered with an error; ``code`` is its machine code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        denied = status in {401, 403}
        unavailable = status >= 500
        exit_code = ExitCode.NO_PERMISSION if denied else ExitCode.UNAVAILABLE if unavailable else ExitCode.FAILED
        super().__init__(f"The hub refused: {message} (HTTP {status})", code=code, exit_code=exit_code)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What the hub gives a new agent."""

    token: str
    ws_url: object
    default_repo: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """``skew``: how many seconds this machine's clock is ahead of the hub's, exact to about a second."""

    status: str
    missing: tuple[str, ...]
    skew: float | None


class HubApi:
    """One hub, asked with one token or none. Everything raises HubUnreachable or HubRefused."""

    def __init__(self, hub: HubAddress, *, token: str | None = None, ca_file: Path | None = None) -> None:
        """Raises Failure when the CA file cannot be used."""
        self.hub = hub
        headers = {"user-agent": f"agentcom-sidecar/{__version__}"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        try:
            self._client = httpx.Client(
                base_url=hub.url,
                headers=headers,
                timeout=TIMEOUT,
                verify=_tls(ca_file),
                trust_env=not hub.on_this_machine,
            )
        except OSError as error:
            raise Failure(
                f"The CA file {ca_file} cannot be used: {error}.", code="invalid_ca_file", exit_code=ExitCode.USAGE
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def health(self) -> Health:
        """Whether this is a hub and how it is; also one that cannot reach its store answers."""
        sent = time.time()
        response = self._exchange("GET", "/health")
        body = _object(response)
        if body.get("service") != "agent_com":
            raise HubUnreachable(
                f"Something answers at {self.hub.url}, but it is not an AgentCom hub.", maybe_done=False
            )
        missing = body.get("missing")
        return Health(
            status=str(body.get("status")),
            missing=tuple(map(str, missing)) if isinstance(missing, list) else (),
            skew=_skew(response, sent=sent, received=time.time()),
        )

    def connected_agents(self) -> frozenset[str]:
        """The ids of the agents that are connected now; a hub lists the first thousand."""
        agents = self._call("GET", "/api/agents").get("agents")
        rows = agents if isinstance(agents, list) else []
        return frozenset(str(row["agent_id"]) for row in rows if isinstance(row, dict) and "agent_id" in row)

    def default_repo(self) -> str | None:
        """The repository that agents of this hub work on; None when none is configured."""
        value = self._call("GET", "/api/config/default-repo").get("default_repo")
        return value if isinstance(value, str) and value else None

    def register(self, agent_id: str, *, token: str, enrolment_key: str | None = None) -> Registration:
        """Make an agent known by a token of our choice; a hub that does not know of that gives it one of its own.

        HubRefused with status 409: the id is taken. Never repeated on its own.
        """
        headers = {"x-enrolment-key": enrolment_key} if enrolment_key else {}
        body = self._call("POST", "/api/onboard/register", json={"agent_id": agent_id, "token": token}, headers=headers)
        repo = body.get("default_repo")
        return Registration(
            token=_token(body),
            ws_url=body.get("hub_ws_url"),
            default_repo=repo if isinstance(repo, str) and repo else None,
        )

    def mint_token(self, agent_id: str) -> str:
        """One more token for an agent; needs an admin's token."""
        return _token(self._call("POST", "/admin/tokens", json={"agent_id": agent_id}))

    def revoke_tokens(self, agent_id: str) -> None:
        """Make all tokens of an agent invalid; that there are none is no error."""
        self._call("DELETE", f"/admin/tokens/{quote(agent_id, safe='')}")

    def token_owner(self, token: str) -> str | None:
        """Whose token ours is; None when the hub does not tell. HubRefused with status 401: nobody's."""
        tokens = self._call("GET", "/admin/tokens").get("tokens")
        rows = [row for row in tokens if isinstance(row, dict)] if isinstance(tokens, list) else []
        owners = {str(row.get("agent_id")) for row in rows if row.get("token_prefix") == f"{token[:8]}..."}
        return owners.pop() if len(owners) == 1 else None

    def agent_state(self, agent_id: str) -> dict[str, Any] | None:
        """The state of a connected agent; None when it is not connected."""
        try:
            return self._call("GET", f"/api/agents/{quote(agent_id, safe='')}/state")
        except HubRefused as error:
            if error.status == 404:
                return None
            raise

    def submit(self, task: Mapping[str, Any], *, idempotency_key: str) -> dict[str, Any]:
        """Submit a task; the answer has ``task_id``. Safe to repeat with the same key."""
        return self._call(
            "POST", "/api/tasks", json=dict(task), headers={"idempotency-key": idempotency_key}, repeatable=True
        )

    def task(self, task_id: str) -> dict[str, Any]:
        """A task as it is now."""
        return self._call("GET", f"/api/tasks/{quote(task_id, safe='')}")

    def cancel(self, task_id: str, *, reason: str) -> dict[str, Any]:
        """End a task; an agent that works on it is told to stop."""
        return self._call("POST", f"/api/tasks/{quote(task_id, safe='')}/cancel", json={"reason": reason})

    def _call(
        self,
        method: str,
        path: str,
        *,
        json: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = False,
    ) -> dict[str, Any]:
        """The JSON object of a successful answer. A request that was certainly not carried out is sent again."""
        repeatable = repeatable or method == "GET"
        for attempt in range(1, ATTEMPTS + 1):
            last = attempt == ATTEMPTS
            try:
                response = self._exchange(method, path, json=json, headers=headers)
            except HubUnreachable as error:
                if last or not repeatable or not error.maybe_done:
                    raise
                time.sleep(attempt)
                continue
            if response.is_success:
                return _object(response)
            pause = _pause(response)
            again = response.status_code == 429 or (response.status_code == 503 and repeatable)
            if last or not again or pause > LONGEST_WAIT:
                raise _refusal(response)
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def _exchange(
        self,
        method: str,
        path: str,
        *,
        json: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        try:
            return self._client.request(method, path, json=json, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise HubUnreachable(f"The hub at {self.hub.url} cannot be reached: {error}.", maybe_done=False) from None
        except httpx.TimeoutException:
            raise HubUnreachable(
                f"The hub at {self.hub.url} did not answer within {TIMEOUT:g} seconds.", maybe_done=True
            ) from None
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise HubUnreachable(
                f"The connection to the hub at {self.hub.url} broke: {reason}.", maybe_done=True
            ) from None


def _tls(ca_file: Path | None) -> Any:
    if ca_file is None:
        return True
    import ssl  # noqa: PLC0415 - rarely needed, and slow to load

    return ssl.create_default_context(cafile=ca_file)


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        value = response.json()
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise HubUnreachable(
            f"Something answers at {response.request.url.host}, but not like an AgentCom hub "
            f"(HTTP {response.status_code}, no JSON object).",
            maybe_done=True,
        )
    return value


def _refusal(response: httpx.Response) -> HubRefused:
    try:
        body = response.json()
    except ValueError:
        body = None
    body = body if isinstance(body, dict) else {}
    code = str(body.get("error") or f"http_{response.status_code}")
    return HubRefused(response.status_code, code, str(body.get("message") or code))


def _pause(response: httpx.Response) -> float:
    try:
        return max(0.1, float(response.headers.get("retry-after", "1")))
    except ValueError:
        return 1.0


def _token(body: Mapping[str, Any]) -> str:
    token = body.get("token")
    if not isinstance(token, str) or not token:
        raise HubUnreachable("The hub's answer has no token in it.", maybe_done=True)
    return token


def _skew(response: httpx.Response, *, sent: float, received: float) -> float | None:
    """The Date header has whole seconds, so its middle is compared."""
    text = response.headers.get("date")
    try:
        stamp = email.utils.parsedate_to_datetime(text).timestamp() if text else None
    except ValueError:
        return None
    return None if stamp is None else (sent + received) / 2 - (stamp + 0.5)
