"""The hub's WebSocket protocol as the sidecar speaks it: frames, limits, refusal codes, close codes."""

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agentcom_sidecar.files import to_json

PROTOCOL_VERSION = 1
CLIENT_FEATURES = ("progress", "cancel", "recover")
MAX_FRAME_BYTES = 1024 * 1024
MAX_ERROR_CHARS = 2000

PRIORITIES = ("urgent", "high", "normal", "low")
"""By the number that hubs send."""

TASK_ID = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,128}\Z")
"""Task ids become file names, so anything else is refused before it is used."""

FINAL_REFUSALS = frozenset(
    {
        "stale_generation",
        "not_owner",
        "invalid_state",
        "not_found",
        "task_not_found",
        "not_cancelling",
        "validation_failed",
        "invalid_json",
        "result_too_large",
        "result_too_deep",
    }
)
"""Codes after which sending the same report again cannot succeed."""

RESULT_REFUSALS = frozenset({"result_too_large", "result_too_deep", "validation_failed", "invalid_json"})
"""Codes that are about what a report says: the hub still waits to hear how the task ended."""

FATAL_ERRORS = {
    "invalid_token": "The hub does not know this token (invalid_token): put the current one into the configuration.",
    "token_agent_mismatch": "The token belongs to another agent (token_agent_mismatch): check agent_id and token.",
}
"""Answers to identify after which trying again is pointless, and what to tell the operator."""

TERMINAL_CLOSES = {
    4500: "Another sidecar connected with the same agent id and took over: only one may run per agent.",
    4501: "The agent's token was revoked: put a new token into the configuration and start again.",
    4502: "The agent was removed from the hub: register it again before starting its sidecar.",
}


class ReportType(StrEnum):
    """The frames that settle a task; each is kept on disk until the hub acknowledges it."""

    COMPLETE = "task_complete"
    FAILED = "task_failed"
    CANCELLED = "task_cancelled"


ERROR_PREFIXES = frozenset({"task_complete_failed", "task_fail_failed", "task_failed_failed", "task_cancelled_failed"})
"""How ``error`` begins in an answer to a report, from hubs that send no separate code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubError:
    """An error frame: what was refused and why. Hubs without ``code`` say both in ``error``; some name no task."""

    code: str
    request: str
    text: str
    task_id: str | None
    generation: int | None
    about_report: bool


def parse_error(frame: dict[str, Any]) -> HubError:
    """The error frame of any hub in one form."""
    text = str(frame.get("error"))[:500]
    prefix, _, cause = text.partition(": ")
    code = str(frame.get("code") or cause or text)
    request = str(frame.get("request_type") or frame.get("message_type") or "")
    task_id = frame.get("task_id")
    return HubError(
        code=code,
        request=request,
        text=text,
        task_id=task_id if isinstance(task_id, str) else None,
        generation=integer(frame, "generation"),
        about_report=request in set(ReportType) or prefix in ERROR_PREFIXES or code == "invalid_json",
    )


def refused_identity(frame: dict[str, Any], error: HubError) -> str | None:
    """What to tell the operator if an answer to identify makes trying again pointless."""
    if error.code == "validation_failed" and error.request == "identify":
        details = frame.get("message") or frame.get("errors")
        return f"The hub refuses agent_id, token or capabilities of the configuration: {str(details)[:500]}"
    return FATAL_ERRORS.get(error.code)


def integer(frame: dict[str, Any], field: str) -> int | None:
    """An integer field of a frame, or None."""
    value = frame.get(field)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def priority_name(frame: dict[str, Any]) -> str:
    """An assignment's priority by name; older hubs do not send it, then the submitter's metadata may name it."""
    metadata = frame.get("metadata")
    for value in (frame.get("priority"), metadata.get("priority") if isinstance(metadata, dict) else None):
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(PRIORITIES):
            return PRIORITIES[value]
        if isinstance(value, str) and value in PRIORITIES:
            return value
    return "normal"


def is_terminal_close(code: int) -> bool:
    """Whether the hub asked not to be called again; decided by the range, so new codes need no new client."""
    return 3500 <= code <= 3999 or 4500 <= code <= 4999


def terminal_sentence(code: int, reason: str) -> str:
    """What to tell the operator about a terminal close."""
    default = f"The hub closed the connection for good (code {code}{f', {reason}' if reason else ''})."
    return TERMINAL_CLOSES.get(code, default)


def cooldown_seconds(code: int, reason: str) -> float:
    """How long to stay away after a close for too many violations: the seconds its reason names, else 30."""
    if code != 1008:
        return 0.0
    found = re.search(r"(\d+)\s*(?:s\b|sec)", reason)
    return min(float(found[1]), 600.0) if found else 30.0


def identify(*, agent_id: str, token: str, capabilities: list[str]) -> dict[str, Any]:
    """The first frame of a connection."""
    return {
        "type": "identify",
        "agent_id": agent_id,
        "token": token,
        "name": agent_id,
        "status": "idle",
        "capabilities": capabilities,
        "client_type": "sidecar",
        "features": list(CLIENT_FEATURES),
    }


def encode(frame: dict[str, Any]) -> bytes:
    """A frame as UTF-8 JSON; every frame names the protocol version."""
    return to_json({**frame, "protocol_version": PROTOCOL_VERSION})


def decode(data: str | bytes) -> dict[str, Any] | None:
    """A received frame, or None when it is not a JSON object."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def clean_text(value: object) -> str:
    """Text as it can be written to files and arguments: no lone surrogates; anything but a string counts as empty."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def clip(text: str, limit: int = MAX_ERROR_CHARS) -> str:
    """The text, cut to the hub's limit on error and reason fields."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def fit_report(frame: dict[str, Any], limit: int) -> dict[str, Any]:
    """The report, with its result cut so that the encoded frame has at most ``limit`` bytes.

    The end of ``output`` is kept and ``output_truncated`` is set. A result that is large for another reason is
    replaced by its status, token count and the end of its JSON text.
    """
    size = len(encode(frame))
    result = frame.get("result")
    if size <= limit or not isinstance(result, dict):
        return frame
    output = result.get("output")
    rest = {**result, "output": "", "output_truncated": True}
    if not isinstance(output, str) or len(encode({**frame, "result": rest})) > limit:
        output = to_json(result).decode()
        rest = {key: result[key] for key in ("status", "exit_code") if _is_small(result.get(key))}
        rest |= {"output": "", "output_truncated": True}
        if isinstance(frame.get("tokens_used"), int):
            rest["tokens_used"] = frame["tokens_used"]
    room = limit - len(encode({**frame, "result": rest}))
    return {**frame, "result": {**rest, "output": _tail_within(output, room)}}


def _is_small(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and len(value) <= 256)


def _tail_within(text: str, room: int) -> str:
    """The longest end of the text whose JSON form has at most ``room`` bytes more than an empty string."""
    low, high = 0, min(len(text), max(0, room))
    while low < high:
        middle = (low + high + 1) // 2
        if len(to_json(text[-middle:])) - 2 <= room:
            low = middle
        else:
            high = middle - 1
    return text[-low:] if low else ""
