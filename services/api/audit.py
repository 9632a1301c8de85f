"""What is kept of an admin's request in the log."""

from __future__ import annotations

from typing import Final

import orjson

from agentcom.store.admin_log import AdminAction
from agentcom.wire.json_text import encode
from services.api.request import ApiRequest

MAX_KEPT_BYTES: Final = 2_048
_SECRET: Final = frozenset({"token", "enrolment_key", "secret", "auth_token"})


def admin_action(request: ApiRequest, action: str) -> AdminAction:
    """The record of a request that was carried out. Secrets are left out, and long bodies cut."""
    caller = request.caller
    body = {name: "[REDACTED]" if name in _SECRET else value for name, value in request.body.items()}
    text = encode(body)
    if len(text) > MAX_KEPT_BYTES:
        text = orjson.dumps({"cut": text[:MAX_KEPT_BYTES].decode(errors="ignore")})
    client = request.scope.get("client")
    return AdminAction(
        actor=caller.agent_id,
        role=caller.role.value,
        action=action,
        target=orjson.dumps(request.params),
        body=text,
        remote=client[0] if client else "",
        request_id=request.scope.get("agentcom.request_id", ""),
    )
