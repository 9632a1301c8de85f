"""What an agent left behind, turned into the report that the hub gets.

An agent settles its task by writing ``<results_dir>/<task_id>.json``: a JSON object with ``status``; ``success``
completes the task and the whole object is its result, anything else fails it with ``reason`` or ``error``. Without
such a file the exit status and the output decide.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from agentcom_sidecar.protocol import MAX_ERROR_CHARS, ReportType, clip
from agentcom_sidecar.settings import ResultMode

MAX_RESULT_BYTES = 16 * 1024 * 1024
MAX_RESULT_DEPTH = 254
"""Levels of nesting that hubs take."""
MAX_INTEGER = 2**53
"""Integers up to here are kept exactly by every JSON reader; hubs take no other for a field of their own."""
STDERR_CHARS = 1500
_TOO_DEEP = f"the result file is nested more than {MAX_RESULT_DEPTH} levels deep"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended: the type and the fields of the report about it."""

    type: ReportType
    body: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How the agent process ended: its return code (negative: the signal), or why it could not be started."""

    returncode: int | None = None
    start_error: str | None = None
    ended_at: float = 0.0


class MalformedResultError(ValueError):
    """The result file does not hold a JSON object."""


def completed(result: dict[str, Any]) -> Outcome:
    """A success with this result; an integer ``tokens_used`` in it is reported on its own too."""
    body: dict[str, Any] = {"result": result}
    tokens = result.get("tokens_used")
    if isinstance(tokens, int) and not isinstance(tokens, bool) and abs(tokens) <= MAX_INTEGER:
        body["tokens_used"] = tokens
    return Outcome(ReportType.COMPLETE, body)


def failed(reason: str) -> Outcome:
    """A failure; the reason is cut to what the hub takes."""
    return Outcome(ReportType.FAILED, {"error": clip(reason)})


def read_result(path: Path) -> Outcome | None:
    """The outcome that a result file states; None when there is no file.

    Raises MalformedResultError when it does not (yet) hold a JSON object.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_RESULT_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MalformedResultError(f"the result file cannot be read: {error.strerror}") from error
    if len(data) > MAX_RESULT_BYTES:
        raise MalformedResultError(f"the result file is larger than {MAX_RESULT_BYTES} bytes")
    try:
        value = json.loads(data, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise MalformedResultError(_TOO_DEEP) from None
    except ValueError as error:
        raise MalformedResultError(str(error)) from error
    if _deeper_than(value, MAX_RESULT_DEPTH):
        raise MalformedResultError(_TOO_DEEP)
    if not isinstance(value, dict):
        raise MalformedResultError(f"the result file holds a {type(value).__name__}, not a JSON object")
    if value.get("status") == "success":
        return completed(value)
    return failed(_reason(value))


def from_exit(ended: Exit, *, stdout: tuple[str, bool], stderr: str, need: ResultMode | None) -> Outcome:
    """The outcome of an agent that ended without a result file.

    ``stdout`` is the end of its output and whether something before it was left out. ``need`` is the configured
    ``result``: ``file`` takes nothing for a result but the file, ``auto`` the exit status alone, None (the default)
    an exit status of 0 together with some output.
    """
    if ended.start_error is not None:
        return failed(f"wake_command_failed: {ended.start_error}")
    if ended.returncode != 0:
        tail = stderr.strip()[-STDERR_CHARS:]
        code = ended.returncode if ended.returncode is not None else "unknown"
        status = f"exit status {code}" if not isinstance(code, int) or code > 0 else f"killed by signal {-code}"
        return failed(f"{status}: {tail}"[:MAX_ERROR_CHARS] if tail else status)
    output, cut = stdout
    if need == "file":
        return failed("no_result: the agent ended without writing its result file")
    if need is None and not output.strip():
        return failed("no_result: the agent ended without any output and without writing its result file")
    result: dict[str, Any] = {"status": "success", "output": output, "exit_code": 0}
    if cut:
        result["output_truncated"] = True
    return completed(result)


def _reason(result: dict[str, Any]) -> str:
    for field in ("reason", "error"):
        value = result.get(field)
        if value:
            return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "unknown"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {clip(text, 50)} is too large")
    return value


def _deeper_than(value: object, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        nested = [node.values() if isinstance(node, dict) else node for node in level if isinstance(node, dict | list)]
        level = [child for children in nested for child in children if isinstance(child, dict | list)]
        if not level:
            return False
    return True
