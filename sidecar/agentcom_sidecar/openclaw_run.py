"""An agent that lives in an OpenClaw Gateway: one turn for each attempt, known by a key that was written down first.

The Gateway runs a turn once for each key, as long as it does not restart: a new Gateway knows no old key and would do
the work again. So a key is sent again only while it is the same Gateway and its acceptance was never seen. Once
accepted, the turn is only ever asked about. A turn whose Gateway has restarted is lost, and the task fails.
"""

import asyncio
import itertools
import time
from dataclasses import dataclass
from typing import Any

from agentcom_sidecar.config import SidecarConfig
from agentcom_sidecar.files import read_object, to_json, write_atomic
from agentcom_sidecar.journal import Task
from agentcom_sidecar.openclaw_gateway import Gateway, GatewayRefused, GatewayUnavailable
from agentcom_sidecar.result import Outcome, completed, failed
from agentcom_sidecar.run import Run

PAUSE_MIN = 0.5
PAUSE_MAX = 15.0
ABORT_WAIT = 1.0
MIN_ABORTS = 3
CALL_TIMEOUT = 20.0
LABEL_CHARS = 120


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """How a turn ended by the Gateway's word: ``ok`` or not, the reply or the reason, and the tokens if known."""

    ok: bool
    text: str
    tokens: int | None = None


class OpenClawRun(Run):
    """One turn in the Gateway."""

    def __init__(self, config: SidecarConfig, task: Task) -> None:
        super().__init__(config, task)
        self._gateway = Gateway(config)
        self._order_path = self.dir / "order.json"
        self._ended = self.dir / "ended.json"
        self._fresh = False

    @property
    def alive(self) -> bool:
        """Whether a turn may be at work; only the Gateway knows for certain."""
        return self._order_path.exists() and not self._ended.exists()

    @property
    def never_started(self) -> bool:
        """Whether it is certain that no turn was asked for on this run."""
        return not self._order_path.exists()

    async def wake(self) -> None:
        """Write down the call that `watch` will make, its key included."""
        order = await asyncio.to_thread(self._order)
        await asyncio.to_thread(write_atomic, self._order_path, to_json(order))
        self._fresh = True
        self._log.info("wake_attempt", run_key=order["params"]["idempotencyKey"], attempt=self.task.attempt)

    async def watch(self) -> Outcome:
        """See the turn accepted, then follow it; when there is an outcome, the turn has ended or was aborted."""
        order = await asyncio.to_thread(read_object, self._order_path) or {}
        params: dict[str, Any] = order["params"]
        if self._ended.exists() and self._config.result_mode == "deferred":
            return await self.await_file()
        if not self._began.exists():
            outcome = await self._submit(params, order.get("gateway"))
            if outcome is not None:
                return outcome
        return await self._follow(params)

    async def stop(self, *, grace: float | None = None) -> None:
        """Abort the turn. An abort that comes before the Gateway has begun the turn does nothing, so it is repeated."""
        order = await asyncio.to_thread(read_object, self._order_path)
        if order is None or self._ended.exists():
            return
        params = order["params"]
        key, session = params["idempotencyKey"], params["sessionKey"]
        deadline = time.monotonic() + (self._config.kill_grace_ms / 1000 if grace is None else grace)
        for number in itertools.count(1):
            try:
                reply = await self._gateway.call("chat.abort", {"sessionKey": session, "runId": key})
                over = await self._ask(key, ABORT_WAIT) is not None
                self._log.info("agent_aborted", run_key=key, aborted=bool(reply.get("aborted")), over=over)
                if over:
                    await asyncio.to_thread(self._mark_ended)
                    return
            except (GatewayUnavailable, GatewayRefused) as error:
                self._log.warning("abort_failed", run_key=key, error=str(error))
            if number >= MIN_ABORTS and time.monotonic() > deadline:
                break
            await asyncio.sleep(PAUSE_MIN)
        if self._began.exists():
            self._log.error("agent_not_stopped", run_key=key, note="the turn may go on in the Gateway")

    def _order(self) -> dict[str, Any]:
        task, agent = self.task, self._config.openclaw_agent
        return {
            "params": {
                "message": self.message(),
                "agentId": agent,
                "sessionKey": f"agent:{agent}:agentcom:{task.task_id}",
                "idempotencyKey": f"agentcom:{task.task_id}:{task.generation}:{task.attempt}",
                "timeout": self._config.wake_timeout_ms // 1000,
                "label": f"AgentCom {task.task_id}"[:LABEL_CHARS],
            },
        }

    # ---- until the turn is accepted

    async def _submit(self, params: dict[str, Any], gateway: str | None) -> Outcome | None:
        """Get the turn accepted; None when it is. Transient trouble is retried with the same key."""
        deadline = time.monotonic() + self._config.wake_patience_ms / 1000
        pause, fresh = PAUSE_MIN, self._fresh
        while True:
            outcome = await self.look(final=False)
            if outcome is not None:
                return outcome
            try:
                gateway, outcome = await self._call_agent(params, gateway, fresh=fresh)
                return outcome
            except GatewayRefused as error:
                await asyncio.to_thread(self._mark_ended)
                return failed(f"wake_refused: {error}")
            except GatewayUnavailable as error:
                self._log.warning("wake_retry", error=str(error), again_in_seconds=pause)
                reason = str(error)
            fresh = False
            if time.monotonic() + pause > deadline or self.overdue:
                await self.stop()  # Some call may have been accepted although its answer was lost.
                return await self.look(final=True) or failed(f"wake_failed: {reason}")
            await asyncio.sleep(pause)
            pause = min(pause * 2, PAUSE_MAX)

    async def _call_agent(
        self, params: dict[str, Any], gateway: str | None, *, fresh: bool
    ) -> tuple[str | None, Outcome | None]:
        key = params["idempotencyKey"]
        if not fresh:
            end = await self._ask(key, 0.1)
            if end is not None:
                return gateway, await self._conclude(end)
        instance = await self._gateway.instance()
        if gateway is None:
            gateway = instance
            await asyncio.to_thread(write_atomic, self._order_path, to_json({"params": params, "gateway": gateway}))
        elif instance is not None and instance != gateway:
            await asyncio.to_thread(self._mark_ended)
            return gateway, await self.look(final=True) or failed(_lost("before the turn was seen to be accepted"))
        reply = await self._gateway.call("agent", params, timeout=CALL_TIMEOUT)
        status = reply.get("status") if isinstance(reply, dict) else None
        if status in {"accepted", "in_flight"}:
            await asyncio.to_thread(self.mark_began, {"run_key": key, "gateway": gateway})
            self._log.info("wake_accepted", run_key=key, status=status)
            return gateway, None
        end = _turn_end(reply)
        if end is None:
            raise GatewayRefused(f"unexpected answer {str(reply)[:300]}")
        return gateway, await self._conclude(end)

    # ---- while it works

    async def _follow(self, params: dict[str, Any]) -> Outcome:
        key = params["idempotencyKey"]
        waiting = asyncio.create_task(self._await_end(key))
        try:
            while True:
                self.note_confirmation()
                outcome = await self.look(final=False)
                if outcome is not None:
                    await self._let_finish(waiting)
                    return outcome
                if self.overdue:
                    waiting.cancel()
                    return await self.time_out()
                await asyncio.wait({waiting}, timeout=self._config.result_poll_ms / 1000)
                if waiting.done():
                    return await self._conclude(waiting.result())
        finally:
            waiting.cancel()

    async def _await_end(self, key: str) -> TurnEnd:
        """Ask in slices until the turn is over."""
        pause = PAUSE_MIN
        while True:
            try:
                end = await self._ask(key, self._config.openclaw_wait_ms / 1000)
                if end is not None:
                    return end
                if await self._is_other_gateway():
                    return await self._ask(key, 0.1) or TurnEnd(ok=False, text=_lost("while the turn was at work"))
                pause = PAUSE_MIN
            except (GatewayUnavailable, GatewayRefused) as error:
                self._log.warning("follow_retry", run_key=key, error=str(error), again_in_seconds=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, PAUSE_MAX)

    async def _is_other_gateway(self) -> bool:
        began = await asyncio.to_thread(read_object, self._began) or {}
        known = began.get("gateway")
        instance = await self._gateway.instance() if known else None
        return instance is not None and instance != known

    async def _ask(self, key: str, seconds: float) -> TurnEnd | None:
        """How the turn ended, after waiting for that; None when it is at work or unknown."""
        params = {"runId": key, "timeoutMs": int(seconds * 1000)}
        reply = await self._gateway.call("agent.wait", params, timeout=seconds + CALL_TIMEOUT)
        return _turn_end(reply)

    async def _let_finish(self, waiting: asyncio.Task[TurnEnd]) -> None:
        """Give an agent that has written its result time to end its turn, then abort it."""
        done, _ = await asyncio.wait({waiting}, timeout=self._config.kill_grace_ms / 1000)
        if done:
            await asyncio.to_thread(self._mark_ended)
            return
        waiting.cancel()
        self._log.warning("agent_lingers", note="its turn is aborted after it had written its result")
        await self.stop()

    async def _conclude(self, end: TurnEnd) -> Outcome:
        """The outcome of a turn that is over."""
        await asyncio.to_thread(self._mark_ended)
        if end.ok and self._config.result_mode == "deferred":
            return await self.await_file()
        outcome = await self.look(final=True)
        if outcome is None and end.ok and self._config.result_mode == "auto" and end.text.strip():
            result: dict[str, Any] = {"status": "success", "output": end.text[-self._config.output_limit_bytes :]}
            outcome = completed(result if end.tokens is None else {**result, "tokens_used": end.tokens})
        if outcome is None and end.ok:
            outcome = failed("no_result: the agent's turn ended without writing its result file")
        if outcome is None:
            outcome = failed(end.text if end.text.startswith("agent_lost") else f"agent_error: {end.text}")
        return outcome

    def _mark_ended(self) -> None:
        write_atomic(self._ended, to_json({"ended_at": time.time()}))


def _lost(when: str) -> str:
    return f"agent_lost: the OpenClaw Gateway was restarted {when}, and no result is there"


def _turn_end(reply: Any) -> TurnEnd | None:
    """The end of a turn from an answer to ``agent.wait`` or ``agent``; None when it is not over."""
    if not isinstance(reply, dict):
        return None
    status = reply.get("status")
    final = isinstance(reply.get("result"), dict)
    if status == "ok":
        return TurnEnd(ok=True, text=_reply_text(reply), tokens=_tokens(reply))
    if status == "error" or (status == "timeout" and (reply.get("endedAt") or final)):
        parts = [reply.get("error"), reply.get("stopReason"), reply.get("summary"), status]
        return TurnEnd(ok=False, text=next(str(part) for part in parts if part))
    return None


def _reply_text(reply: dict[str, Any]) -> str:
    terminal = reply.get("terminalReply")
    if isinstance(terminal, dict) and isinstance(terminal.get("text"), str):
        return str(terminal["text"])
    result = reply.get("result")
    payloads = result.get("payloads") if isinstance(result, dict) else None
    texts = [item.get("text") for item in payloads or [] if isinstance(item, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))


def _tokens(reply: dict[str, Any]) -> int | None:
    value: Any = reply.get("result")
    for name in ("meta", "agentMeta", "usage", "total"):
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, int) else None
