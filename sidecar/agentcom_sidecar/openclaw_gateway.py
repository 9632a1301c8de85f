"""Calls to OpenClaw's Gateway through its own command line, which knows how to find and to authenticate to it."""

import json
import os
from typing import Any

from agentcom_sidecar import wake
from agentcom_sidecar.config import SidecarConfig
from agentcom_sidecar.files import to_json
from agentcom_sidecar.openclaw_exec_run import OPENCLAW_ENVIRONMENT
from agentcom_sidecar.subprocess_call import CallTimeout, Finished, call

CLI_SLACK = 30.0
"""Seconds that the program itself may need besides the call; its first start is slow."""

TRANSIENT_CODES = frozenset({"UNAVAILABLE", "TIMEOUT", "RATE_LIMITED", "AGENT_TIMEOUT"})
TRANSIENT_SIGNS = ("ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "EPIPE", "gateway closed", "gateway timeout")


class GatewayUnavailable(Exception):
    """The call may or may not have reached the Gateway; asking again later may succeed."""


class GatewayRefused(Exception):
    """The Gateway, or its program, refuses the call; the same call cannot succeed."""


class Gateway:
    """One method call for each run of ``openclaw gateway call``."""

    def __init__(self, config: SidecarConfig) -> None:
        self._command = config.openclaw_command
        self._env = wake.allowed_environment(
            os.environ, allow=(*OPENCLAW_ENVIRONMENT, *config.env_allow), secrets=config.secrets
        )

    async def call(self, method: str, params: dict[str, Any], *, timeout: float = 20.0) -> Any:
        """The answer to a method call; ``timeout`` seconds is what the Gateway may take.

        Raises GatewayUnavailable or GatewayRefused.
        """
        limit = str(int(timeout * 1000))
        options = ("gateway", "call", method, "--json", "--timeout", limit, "--params")
        try:
            done = await call([*self._command, *options, to_json(params)], env=self._env, timeout=timeout + CLI_SLACK)
        except CallTimeout as error:
            raise GatewayUnavailable(str(error)) from None
        except OSError as error:
            sentence = f"wake_command_failed: cannot start {self._command[0]!r}: {error.strerror or error}"
            raise GatewayRefused(sentence) from None
        return _answer(done)

    async def instance(self) -> str | None:
        """What tells one start of the Gateway from the next; None when it does not say.

        Raises GatewayUnavailable or GatewayRefused.
        """
        entries = await self.call("system-presence", {})
        for entry in entries if isinstance(entries, list) else []:
            if isinstance(entry, dict) and entry.get("mode") == "gateway" and entry.get("instanceId"):
                return str(entry["instanceId"])
        return None


def _answer(done: Finished) -> Any:
    try:
        value = json.loads(done.stdout)
    except (ValueError, RecursionError):
        value = None
    if done.returncode == 0 and value is not None and not _is_failure(value):
        return value
    if isinstance(value, dict) and "status" in value and not isinstance(value.get("error"), dict):
        return value
    error = value.get("error") if isinstance(value, dict) else None
    error = error if isinstance(error, dict) else {"message": str(error) if error else done.complaint}
    text = f"{error.get('code') or error.get('type') or 'openclaw'}: {error.get('message') or done.complaint}"
    raise GatewayUnavailable(text) if _is_transient(error, text) else GatewayRefused(text)


def _is_failure(value: Any) -> bool:
    return isinstance(value, dict) and value.get("ok") is False


def _is_transient(error: dict[str, Any], text: str) -> bool:
    if error.get("type") == "gateway_transport_error":
        return True
    if isinstance(error.get("retryable"), bool):
        return bool(error["retryable"])
    return error.get("code") in TRANSIENT_CODES or any(sign in text for sign in TRANSIENT_SIGNS)
