"""``openclaw agent exec``: one headless turn in a process of its own, without a Gateway."""

import json
import os
from typing import Any

from agentcom_sidecar import wake
from agentcom_sidecar.files import read_tail, write_atomic
from agentcom_sidecar.process_run import ProcessRun
from agentcom_sidecar.result import Exit, Outcome, completed, failed, from_exit

OPENCLAW_ENVIRONMENT = ("OPENCLAW_*", "NODE_*", "XDG_*")
"""What OpenClaw's own program needs besides the ordinary variables; its model's key must be named in env_allow."""

EXIT_TIMEOUT = 2
MAX_ANSWER_BYTES = 8 * 1024 * 1024
SLACK_SECONDS = 30


class OpenClawExecRun(ProcessRun):
    """The agent is OpenClaw's own process: it ends when the turn is over."""

    def argv(self) -> list[str]:
        """The message goes through a private file, so neither its length nor its content matters."""
        write_atomic(self.paths.message, self.message().encode())
        limit = self._config.wake_timeout_ms // 1000
        return [
            *(*self._config.openclaw_command, "agent", "exec", "--message-file", str(self.paths.message)),
            *("--cwd", str(self.place.folder), "--json"),
            *("--timeout", str(limit + SLACK_SECONDS if limit else 0)),
        ]

    def agent_environment(self) -> dict[str, str]:
        """As for any agent, and what OpenClaw needs."""
        own = wake.allowed_environment(os.environ, allow=OPENCLAW_ENVIRONMENT, secrets=self._config.secrets)
        return own | super().agent_environment()

    def conclude(self, ended: Exit) -> Outcome:
        """The outcome of a turn without a result file, by what OpenClaw says about it."""
        answer = self._answer()
        if ended.start_error is not None or (answer is None and ended.returncode != 0):
            stderr, _ = read_tail(self.dir / "stderr", self._config.output_limit_bytes)
            return from_exit(ended, stdout=("", False), stderr=stderr, need="file")
        answer = answer or {}
        status = answer.get("status")
        if ended.returncode == EXIT_TIMEOUT or status == "timeout":
            return failed("agent_timeout: the OpenClaw turn ran into its time limit")
        if ended.returncode != 0 or answer.get("ok") is False or status == "error":
            return failed(f"agent_error: {_error_text(answer)}")
        text = answer.get("final")
        if self._config.result_mode != "auto" or not isinstance(text, str) or not text.strip():
            return failed("no_result: the agent's turn ended without writing its result file")
        result: dict[str, Any] = {"status": "success", "output": text[-self._config.output_limit_bytes :]}
        usage = answer.get("usage")
        if isinstance(usage, dict) and isinstance(usage.get("total"), int):
            result["tokens_used"] = usage["total"]
        return completed(result)

    def _answer(self) -> dict[str, Any] | None:
        text, _ = read_tail(self.dir / "stdout", MAX_ANSWER_BYTES)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None


def _error_text(answer: dict[str, Any]) -> str:
    error = answer.get("error")
    if isinstance(error, dict):
        error = error.get("message") or error.get("kind")
    return str(error or answer.get("status") or "the OpenClaw turn failed")
