"""The agent's token: from a registration, from an admin, or the one there was."""

import secrets

from pydantic import SecretStr

from agentcom_sidecar.failure import ExitCode, Failure
from agentcom_sidecar.hub_address import HubAddress
from agentcom_sidecar.hub_api import HubApi, HubRefused, HubUnreachable
from agentcom_sidecar.invocation import program
from agentcom_sidecar.onboarding.progress import ProgressFile, Step

TAKEN = 409


class NameTakenError(Failure):
    """Somebody else has the name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The hub already has an agent called {name}.",
            code="name_taken",
            advice=(
                f"If it is yours and you have its token: {_rejoin(name)}",
                "Choose another name with --name.",
                f"Or have an admin revoke it: DELETE /admin/tokens/{name}",
            ),
        )


def register(progress: ProgressFile, api: HubApi, *, enrolment_key: str | None, admin: HubApi | None) -> None:
    """Register the agent and keep its token.

    The token is chosen and recorded first: if the answer is lost, the same registration is made again. A hub that does
    not take a chosen token gives its own only once; there the next attempt finds the name taken, and knows that it may
    be ours. Raises NameTakenError or another Failure.
    """
    name = progress.now.agent_name
    sent_before = progress.now.registration == "sent"
    token = progress.now.token or SecretStr(secrets.token_hex(32))
    progress.update(registration="sent", token=token)
    try:
        registered = (admin or api).register(name, token=token.get_secret_value(), enrolment_key=enrolment_key)
    except HubRefused as error:
        if error.status == TAKEN and (sent_before or error.maybe_done):
            _register_lost(progress, api.hub, admin=admin)
            return
        if not error.maybe_done and not sent_before:
            progress.update(registration="none", token=None)
        if error.status == TAKEN:
            raise NameTakenError(name) from None
        raise _explained(error) from None
    except HubUnreachable as error:
        if not error.maybe_done and not sent_before:
            progress.update(registration="none", token=None)
        raise
    progress.complete(
        Step.REGISTER,
        registration="done",
        token=SecretStr(registered["token"]),
        ws_url=api.hub.choose_ws_url(registered.get("hub_ws_url")),
        default_repo=registered.get("default_repo") or progress.now.default_repo,
    )


def check_token(api: HubApi, *, name: str, token: str) -> None:
    """Make sure that the token is this agent's; ``api`` uses it. Raises Failure."""
    try:
        owner = api.token_owner(token)
    except HubRefused as error:
        if error.status != 401:
            raise
        raise Failure(
            f"The hub does not take the token of {name}: it is wrong, or was revoked.",
            code="invalid_token",
            exit_code=ExitCode.NO_PERMISSION,
            advice=(f"Have an admin make a new one: POST /admin/tokens with agent_id {name}",),
        ) from None
    if owner is not None and owner != name:
        raise Failure(
            f"The token is not that of {name} but of {owner}.",
            code="token_agent_mismatch",
            exit_code=ExitCode.NO_PERMISSION,
        )


def _register_lost(progress: ProgressFile, hub: HubAddress, *, admin: HubApi | None) -> None:
    """Our earlier registration may have succeeded without our getting the token: an admin can give another one."""
    name = progress.now.agent_name
    if admin is None:
        raise Failure(
            f"The hub already has an agent called {name}. An earlier attempt was cut off after it had been sent, so it "
            "is probably this one, but its token is lost: the hub tells it only once.",
            code="registration_lost",
            advice=(
                f"If you have an admin's token, a new one is made: {_resume(name)}",
                f"If an admin made you one (POST /admin/tokens): {_rejoin(name)}",
                "Otherwise remove the folder of this agent and start again with another --name.",
            ),
        )
    token = admin.create_token(name)
    progress.complete(Step.REGISTER, registration="done", token=SecretStr(token), ws_url=hub.ws_url)


def _explained(error: HubRefused) -> Failure:
    if error.code == "enrolment_key_required":
        advice = "Give the hub's enrolment key with --enrolment-key-file or in AGENTCOM_ENROLMENT_KEY."
    elif error.code == "enrolment_key_invalid":
        advice = "Ask the hub's operator for the current enrolment key."
    else:
        return error
    return Failure(str(error), code=error.code, exit_code=ExitCode.NO_PERMISSION, advice=(advice,))


def _rejoin(name: str) -> str:
    return f"{program()} add-agent --rejoin --name {name} --token-file FILE"


def _resume(name: str) -> str:
    return f"{program()} add-agent --resume --name {name} --admin-token-file FILE"
