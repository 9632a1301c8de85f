"""Options that several commands have, and what they lead to."""

from pathlib import Path
from typing import Annotated

import typer

from agentcom_sidecar.failure import ExitCode, Failure
from agentcom_sidecar.secrets_input import ADMIN_TOKEN, ENROLMENT_KEY, TOKEN, SecretSource

HUB_VARIABLE = "AGENTCOM_HUB"

HubOption = Annotated[
    str | None,
    typer.Option("--hub", envvar=HUB_VARIABLE, help="The hub's address, such as https://hub.example.", metavar="URL"),
]
AgentOption = Annotated[
    str | None, typer.Option("--agent", "-a", help="An agent of this machine; needed if there are several.")
]
TokenOption = Annotated[
    str | None,
    typer.Option(
        "--token",
        help=f"The token, or - to read it from stdin. Better: --token-file or {TOKEN}, which no other user can see.",
    ),
]
TokenFileOption = Annotated[
    Path | None, typer.Option("--token-file", help="A file with the token, or - for stdin.", metavar="FILE")
]
AdminTokenFileOption = Annotated[
    Path | None,
    typer.Option("--admin-token-file", help=f"A file with an admin's token; or set {ADMIN_TOKEN}.", metavar="FILE"),
]
EnrolmentKeyFileOption = Annotated[
    Path | None,
    typer.Option(
        "--enrolment-key-file", help=f"A file with the hub's enrolment key; or set {ENROLMENT_KEY}.", metavar="FILE"
    ),
]
CaFileOption = Annotated[
    Path | None, typer.Option("--ca-file", help="CA certificates that the hub's certificate is checked against.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout, everything else on stderr.")]


def token_source(token: str | None, token_file: Path | None) -> SecretSource:
    """Where an agent's token comes from."""
    return SecretSource(what="token", variable=TOKEN, value=token, file=token_file)


def admin_token_source(token_file: Path | None) -> SecretSource:
    """Where an admin's token comes from."""
    return SecretSource(what="admin token", variable=ADMIN_TOKEN, file=token_file)


def enrolment_key_source(key_file: Path | None) -> SecretSource:
    """Where the enrolment key comes from."""
    return SecretSource(what="enrolment key", variable=ENROLMENT_KEY, file=key_file)


def usage(sentence: str) -> Failure:
    """Options that do not go together."""
    return Failure(sentence, code="usage", exit_code=ExitCode.USAGE)
