"""An agent that is woken over OpenClaw's HTTP hooks; no program of OpenClaw is needed on this machine.

A hook starts a turn once for each key, as long as the Gateway does not restart and for some minutes after the turn.
So a key is sent again only until its acceptance was seen; then one more request with the same key waits for the end.
If that is cut off, or after a restart of the sidecar, only the result file counts. A hook cannot stop a turn.
"""

import asyncio
import contextlib
from typing import Any

import httpx

from agentcom_sidecar.config import SidecarConfig
from agentcom_sidecar.files import read_object, to_json, write_atomic
from agentcom_sidecar.journal import Task
from agentcom_sidecar.result import Outcome, failed
from agentcom_sidecar.run import Run

ADMISSION_TIMEOUT = 30.0
CONNECT_TIMEOUT = 10.0
PAUSE_MIN = 0.5
PAUSE_MAX = 15.0
DAY = 24 * 3600
TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class HookUnavailable(Exception):
    """The request may or may not have arrived; the same one may be sent again."""


class HookRefused(Exception):
    """The same request cannot succeed."""


class HookRun(Run):
    """One turn, started over HTTP."""

    def __init__(self, config: SidecarConfig, task: Task) -> None:
        super().__init__(config, task)
        self._order_path = self.dir / "order.json"

    @property
    def alive(self) -> bool:
        """There is nothing that could be stopped."""
        return False

    @property
    def never_started(self) -> bool:
        """Whether it is certain that no turn was asked for on this run."""
        return not self._order_path.exists()

    async def wake(self) -> None:
        """Write down the request that `watch` will send, its key included."""
        key = f"agentcom:{self.task.task_id}:{self.task.generation}:{self.task.attempt}"
        body = {
            "message": self.message(),
            "name": "AgentCom",
            "agentId": self._config.openclaw_agent,
            "deliver": False,
            "sessionMode": "isolated",
            "timeoutSeconds": self._config.wake_timeout_ms // 1000 or DAY,
        }
        await asyncio.to_thread(write_atomic, self._order_path, to_json({"key": key, "body": body}))
        self._log.info("wake_attempt", run_key=key, attempt=self.task.attempt)

    async def watch(self) -> Outcome:
        """See the turn accepted, then wait for the result file or the turn's end."""
        order = await asyncio.to_thread(read_object, self._order_path) or {}
        if self._began.exists():
            return await self.await_file()
        async with httpx.AsyncClient(headers=self._headers(order["key"]), follow_redirects=False) as client:
            outcome = await self._submit(client, order)
            return outcome or await self._follow(client, order)

    async def stop(self, *, grace: float | None = None) -> None:
        """Hooks have no way to stop a turn; it goes on in the Gateway until its own time limit."""
        if self._began.exists():
            self._log.warning("agent_not_stopped", note="a turn that was started by a hook cannot be stopped")

    def _headers(self, key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self._config.hook_token.get_secret_value()}", "idempotency-key": key}

    async def _submit(self, client: httpx.AsyncClient, order: dict[str, Any]) -> Outcome | None:
        """Get the turn accepted; None when it is."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._config.wake_patience_ms / 1000
        pause = PAUSE_MIN
        while True:
            try:
                answer = await self._post(client, order["body"], ADMISSION_TIMEOUT)
            except HookRefused as error:
                return await self.look(final=True) or failed(f"wake_refused: {error}")
            except HookUnavailable as error:
                if loop.time() + pause > deadline or self.overdue:
                    return await self.look(final=True) or failed(f"wake_failed: {error}")
                self._log.warning("wake_retry", error=str(error), again_in_seconds=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, PAUSE_MAX)
                continue
            await asyncio.to_thread(self.mark_began, {"run_key": order["key"], "run_id": str(answer.get("runId"))})
            self._log.info("wake_accepted", run_key=order["key"], run_id=answer.get("runId"))
            return None

    async def _follow(self, client: httpx.AsyncClient, order: dict[str, Any]) -> Outcome:
        """Wait for the file and, over HTTP, for the end of the turn, whichever comes first."""
        file = asyncio.create_task(self.await_file())
        end = asyncio.create_task(self._end(client, order["body"]))
        try:
            await asyncio.wait({file, end}, return_when=asyncio.FIRST_COMPLETED)
            if not file.done():
                reason = end.result()
                if reason is None or self._config.result_mode == "deferred":
                    return await file
                return await self.look(final=True) or failed(reason)
            return file.result()
        finally:
            for task in (file, end):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _end(self, client: httpx.AsyncClient, body: dict[str, Any]) -> str | None:
        """Why the turn, now over, has no result if no file is there; None when it cannot be known."""
        limit = float(body["timeoutSeconds"]) + ADMISSION_TIMEOUT
        try:
            answer = await self._post(client, {**body, "waitForCompletion": True}, limit)
        except (HookUnavailable, HookRefused) as error:
            self._log.warning("follow_lost", error=str(error), note="from now on only the result file counts")
            return None
        completion = answer.get("completion")
        if not isinstance(completion, dict):
            return None
        if completion.get("status") == "ok":
            return "no_result: the agent's turn ended without writing its result file"
        return f"agent_error: {completion.get('error') or completion.get('status') or 'the turn failed'}"

    async def _post(self, client: httpx.AsyncClient, body: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The answer to the request. Raises HookUnavailable or HookRefused."""
        try:
            answer = await client.post(
                f"{self._config.hook_url}/agent",
                content=to_json(body),
                headers={"content-type": "application/json"},
                timeout=httpx.Timeout(seconds, connect=CONNECT_TIMEOUT),
            )
        except httpx.TransportError as error:
            raise HookUnavailable(f"{type(error).__name__}: {error}") from None
        try:
            value = answer.json()
        except ValueError:
            value = None
        if answer.status_code == 200 and isinstance(value, dict) and value.get("ok") is True:
            return value
        detail = value.get("error") if isinstance(value, dict) else answer.text[:200]
        sentence = f"the hook answered {answer.status_code}: {detail}"
        raise HookUnavailable(sentence) if answer.status_code in TRANSIENT_STATUS else HookRefused(sentence)
