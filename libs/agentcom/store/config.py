"""The names of the settings that change at run time, and what they are until somebody changes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

HEARTBEAT_INTERVAL: Final = "heartbeat_interval_ms"
MAILBOX_TTL: Final = "mailbox_ttl_ms"
DEFAULT_REPO: Final = "default_repo"
#: A JSON object of those thresholds that were changed.
ALERT_THRESHOLDS: Final = "alert_thresholds"
LOG_LEVEL: Final = "log_level"
#: Milliseconds of the last reset; every process forgets what it remembers when it changes.
RESET_AT: Final = "reset_at"

#: Rules of the alerter by default. Times are milliseconds.
DEFAULT_COOLDOWNS: Final[Mapping[str, int]] = {
    "queue_growing": 300_000,
    "high_failure_rate": 600_000,
    "stuck_tasks": 0,
    "no_agents_online": 0,
    "high_error_rate": 300_000,
}
DEFAULT_THRESHOLDS: Final[Mapping[str, int]] = {
    "queue_growing_checks": 3,
    "failure_rate_pct": 50,
    "stuck_task_ms": 300_000,
    "error_count_hour": 10,
    "check_interval_ms": 30_000,
}
