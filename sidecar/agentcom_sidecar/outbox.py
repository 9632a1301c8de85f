"""Reports on disk until the hub acknowledges them: one JSON file each, refused ones in ``refused/``.

A report is identified by its task and generation. The file name starts with a rising number, so the order in
which reports were made survives a restart.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from agentcom_sidecar.files import make_private_dir, read_object, remove, sync_dir, to_json, write_atomic
from agentcom_sidecar.protocol import ReportType

KEEP_REFUSED = 200
"""How many refused reports are kept; the oldest go first."""


class ReportKey(NamedTuple):
    """What an acknowledgement is matched by."""

    task_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class Report:
    """A frame that settles a task; ``body`` holds its fields besides type, task_id and generation."""

    key: ReportKey
    type: ReportType
    body: dict[str, Any]

    def frame(self) -> dict[str, Any]:
        """The report as it goes to the hub."""
        return {"type": self.type, "task_id": self.key.task_id, "generation": self.key.generation, **self.body}


class Outbox:
    """The folder of unacknowledged reports. All methods block on the disk."""

    def __init__(self, data_dir: Path) -> None:
        self._dir = data_dir / "outbox"
        self._refused = self._dir / "refused"
        make_private_dir(self._refused)
        self._paths: dict[ReportKey, Path] = {}
        self._sequence = 0
        for left_over in self._dir.glob(".*.tmp"):
            left_over.unlink()
        log = structlog.get_logger()
        for path in sorted(self._dir.glob("*.json")):
            report = _read(path)
            if report is None:
                log.error("outbox_file_unreadable", path=str(path))
                path.rename(path.with_suffix(".unreadable"))
                continue
            self._sequence = max(self._sequence, int(path.name.partition("-")[0]))
            self._paths[report.key] = path

    def pending(self) -> dict[ReportKey, ReportType]:
        """The unacknowledged reports, oldest first."""
        return {key: report.type for key in self._paths if (report := self.load(key)) is not None}

    def load(self, key: ReportKey) -> Report | None:
        """The report, or None when it has been delivered or refused."""
        path = self._paths.get(key)
        return _read(path) if path is not None else None

    def store(self, report: Report) -> None:
        """Keep a report until `drop` or `refuse`; durable on return. One of the same key is replaced."""
        path = self._paths.get(report.key)
        if path is None:
            self._sequence += 1
            path = self._dir / f"{self._sequence:012d}-{report.key.task_id}-{report.key.generation}.json"
        write_atomic(path, to_json(report.frame()))
        self._paths[report.key] = path

    def drop(self, key: ReportKey) -> None:
        """Forget a report that the hub acknowledged."""
        path = self._paths.pop(key, None)
        if path is not None:
            remove(path)

    def refuse(self, key: ReportKey, code: str) -> Path | None:
        """Move a report that the hub will never take to ``refused/``, with the hub's code in its name."""
        path = self._paths.pop(key, None)
        if path is None:
            return None
        target = self._refused / f"{path.stem}.{code}.json"
        path.replace(target)
        sync_dir(self._refused)
        sync_dir(self._dir)
        for old in sorted(self._refused.glob("*.json"))[:-KEEP_REFUSED]:
            old.unlink(missing_ok=True)
        return target

    def renumber(self, key: ReportKey, generation: int) -> None:
        """Turn a report into one about a later assignment of the same task."""
        report = self.load(key)
        if report is not None and generation != key.generation:
            self.store(Report(ReportKey(key.task_id, generation), report.type, report.body))
            self.drop(key)

    def superseded(self) -> set[str]:
        """The tasks whose completion was refused only because the hub had moved on to a later generation."""
        reports = (_read(path) for path in self._refused.glob("*.stale_generation.json"))
        return {report.key.task_id for report in reports if report and report.type is ReportType.COMPLETE}

    def revive(self, task_id: str, generation: int) -> ReportKey | None:
        """Bring the completion of a `superseded` task back, for a later assignment of it."""
        for path in sorted(self._refused.glob(f"*-{task_id}-*.stale_generation.json"), reverse=True):
            report = _read(path)
            if report is not None and report.key.task_id == task_id and report.type is ReportType.COMPLETE:
                key = ReportKey(task_id, generation)
                self.store(Report(key, report.type, report.body))
                remove(path)
                return key
        return None


def _read(path: Path) -> Report | None:
    try:
        frame = read_object(path)
        if frame is None:
            return None
        key = ReportKey(str(frame.pop("task_id")), int(frame.pop("generation")))
        return Report(key, ReportType(frame.pop("type")), frame)
    except (ValueError, KeyError, TypeError, OSError):
        return None
