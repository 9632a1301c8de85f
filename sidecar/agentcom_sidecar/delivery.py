"""Which report is on its way to the hub: one at a time, so that any answer can be attributed.

Older hubs answer a refused report with an error that names no task, and acknowledge without a generation. With one
report in flight both are exact.
"""

from collections.abc import Iterable, Mapping

import structlog

from agentcom_sidecar.effects import (
    DropReport,
    Effect,
    RefuseReport,
    RenumberReport,
    ReviveReport,
    SendReport,
    StoreReport,
)
from agentcom_sidecar.outbox import Report, ReportKey
from agentcom_sidecar.protocol import FINAL_REFUSALS, MAX_FRAME_BYTES, RESULT_REFUSALS, HubError, ReportType
from agentcom_sidecar.result import failed


class Delivery:
    """The order of the unacknowledged reports, and the one in flight. Times are monotonic seconds."""

    def __init__(
        self, pending: Mapping[ReportKey, ReportType], superseded: Iterable[str] = (), *, ack_timeout: float
    ) -> None:
        self._pending = dict(pending)
        self._superseded = set(superseded)
        self._ack_timeout = ack_timeout
        self._connected = False
        self._in_flight: ReportKey | None = None
        self._resend_at = 0.0
        self._hold_until = 0.0
        self._max_bytes = MAX_FRAME_BYTES
        self._log = structlog.get_logger()

    def connected(self, *, max_bytes: int) -> None:
        """The hub is ready to take reports."""
        self._connected = True
        self._max_bytes = min(max_bytes, MAX_FRAME_BYTES)

    def disconnected(self) -> None:
        """Nothing is in flight any more."""
        self._connected = False
        self._in_flight = None
        self._hold_until = 0.0

    def add(self, key: ReportKey, kind: ReportType) -> None:
        """A report was stored."""
        self._pending[key] = kind
        self._superseded.discard(key.task_id)

    def find(self, task_id: str, *kinds: ReportType) -> ReportKey | None:
        """The latest unacknowledged report about a task, of one of these kinds."""
        keys = [key for key, kind in self._pending.items() if key.task_id == task_id and kind in kinds]
        return max(keys, key=lambda key: key.generation, default=None)

    def reassigned(self, task_id: str, generation: int) -> list[Effect] | None:
        """What makes an existing completion answer a later assignment; None when the task has none."""
        key = self.find(task_id, ReportType.COMPLETE)
        if key is not None:
            return self.renumber(key, generation)
        if task_id in self._superseded:
            self.add(ReportKey(task_id, generation), ReportType.COMPLETE)
            return [ReviveReport(task_id, generation)]
        return None

    def renumber(self, key: ReportKey, generation: int) -> list[Effect]:
        """Let a report speak for another generation of its task."""
        if generation == key.generation:
            return []
        self._pending[ReportKey(key.task_id, generation)] = self._pending.pop(key)
        return [RenumberReport(key, generation)]

    def next(self, now: float) -> list[Effect]:
        """Send the next report if it is time."""
        if not self._connected or self._in_flight is not None or now < self._hold_until or not self._pending:
            return []
        key = next(iter(self._pending))
        self._in_flight = key
        self._resend_at = now + self._ack_timeout
        return [SendReport(key, self._max_bytes)]

    def tick(self, now: float) -> list[Effect]:
        """Send again what was not answered in time; an unanswered report goes to the end of the line."""
        key = self._in_flight
        if key is not None and now >= self._resend_at:
            self._log.warning("report_unacknowledged", task_id=key.task_id, generation=key.generation)
            self._in_flight = None
            if key in self._pending:
                self._pending[key] = self._pending.pop(key)
        return self.next(now)

    def acknowledged(self, task_id: str, generation: int | None, now: float) -> list[Effect]:
        """The hub took a report."""
        key = self._match(task_id, generation)
        if key is None:
            return []
        self._settle(key)
        return [DropReport(key), *self.next(now)]

    def answered_with_error(self, error: HubError, now: float) -> list[Effect]:
        """The hub refused a report; a passing trouble only delays it, and a refused result fails its task."""
        key = self._in_flight if error.task_id is None else self._match(error.task_id, error.generation)
        code = error.code
        if key is None:
            return []
        if code not in FINAL_REFUSALS:
            self._log.warning("report_deferred", task_id=key.task_id, generation=key.generation, code=code)
            return []
        if key not in self._pending:  # It was renumbered while it was on its way: the answer is to its old form.
            self._in_flight = None
            return self.next(now)
        if code == "stale_generation" and self._pending[key] is ReportType.COMPLETE:
            self._superseded.add(key.task_id)
        effects: list[Effect] = [RefuseReport(key, code)]
        says_too_much = code in RESULT_REFUSALS and self._pending[key] is ReportType.COMPLETE
        self._settle(key)
        self._log.error("report_refused", task_id=key.task_id, generation=key.generation, code=code)
        if says_too_much:
            failure = failed(f"result_refused: the hub does not take the result ({code})")
            self.add(key, failure.type)
            effects.append(StoreReport(Report(key, failure.type, failure.body)))
        return [*effects, *self.next(now)]

    def rate_limited(self, delay: float, now: float) -> None:
        """The hub dropped what was sent just now: hold everything back for this many seconds."""
        self._in_flight = None
        self._hold_until = max(self._hold_until, now + delay)

    def _match(self, task_id: str, generation: int | None) -> ReportKey | None:
        key = self._in_flight
        if key is not None and key.task_id == task_id and generation in {None, key.generation}:
            return key
        if generation is None:
            return self.find(task_id, *ReportType)
        late = ReportKey(task_id, generation)
        return late if late in self._pending else None

    def _settle(self, key: ReportKey) -> None:
        self._pending.pop(key, None)
        if self._in_flight == key:
            self._in_flight = None
