"""One JSON object a line, to stdout and to a file that rotates by size; readable text on a terminal."""

import json
import logging
import logging.handlers
import os
import re
import socket
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

LEVELS = {"debug": 10, "info": 20, "notice": 25, "warning": 30, "error": 40, "critical": 50}
KEPT_LOG_FILES = 4
SECRET_KEY = re.compile(r"(^|[_-])(token|secret|password|passwd|authorization|api[_-]?key)$", re.IGNORECASE)
REDACTED = "[REDACTED]"
SHORTEST_SECRET = 8
"""Anything shorter also occurs by chance, and cannot be a token of a hub."""
NOT_SHOWN = frozenset({"pid", "node", "module", "function", "line"})


class Sink:
    """Where finished lines go; named like the logger that structlog calls."""

    def __init__(self, *, log_file: Path | None, max_bytes: int) -> None:
        self._pretty = structlog.dev.ConsoleRenderer() if sys.stdout.isatty() else None
        self._file = _file_logger(log_file, max_bytes) if log_file is not None else None

    def write(self, event: EventDict) -> None:
        """Write one event; a reader that went away does not stop the sidecar."""
        line = json.dumps(event, ensure_ascii=False, default=str)
        if self._file is not None:
            self._file.info("%s", line)
        text = line
        if self._pretty is not None:
            shown = {key: value for key, value in event.items() if key not in NOT_SHOWN}
            shown |= {"event": shown.pop("message"), "level": shown.pop("severity"), "timestamp": shown.pop("time")}
            text = str(self._pretty(None, "", shown))
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        except (BrokenPipeError, ValueError):
            return

    debug = info = warning = error = critical = msg = write


def configure_logging(
    *, level: str, agent_id: str, secret: str = "", log_file: Path | None = None, max_bytes: int = 10 * 1024 * 1024
) -> None:
    """Set up logging for the process. Raises OSError when the log file cannot be opened."""
    logging.getLogger("websockets").addHandler(logging.NullHandler())
    threshold = LEVELS[level]
    sink = Sink(log_file=log_file, max_bytes=max_bytes)

    def keep(_: WrappedLogger, method: str, event: EventDict) -> EventDict:
        if LEVELS.get(method, 20) < threshold:
            raise structlog.DropEvent
        return event

    def shape(_: WrappedLogger, method: str, event: EventDict) -> Any:
        fixed = {
            "time": event.pop("timestamp"),
            "severity": method,
            "message": event.pop("event"),
            "module": event.pop("module", None),
            "pid": os.getpid(),
            "node": socket.gethostname(),
            "agent_id": agent_id,
            "function": event.pop("func_name", None),
            "line": event.pop("lineno", None),
        }
        return ({**fixed, **{key: redact(key, value, secret) for key, value in event.items() if key not in fixed}},), {}

    callsite = structlog.processors.CallsiteParameter
    structlog.configure(
        processors=[
            keep,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.CallsiteParameterAdder({callsite.MODULE, callsite.FUNC_NAME, callsite.LINENO}),
            structlog.processors.format_exc_info,
            shape,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=False,
    )


def redact(key: str, value: Any, secret: str) -> Any:
    """The value without secrets: by the name of its key at any depth, and wherever the given secret occurs in text."""
    if SECRET_KEY.search(key):
        return REDACTED
    if isinstance(value, dict):
        return {inner: redact(str(inner), item, secret) for inner, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact("", item, secret) for item in value]
    if isinstance(value, str) and len(secret) >= SHORTEST_SECRET:
        return value.replace(secret, REDACTED)
    return value


class PrivateRotatingFile(logging.handlers.RotatingFileHandler):
    """A log file that only this user may read, also after it was rotated."""

    def _open(self) -> TextIOWrapper:
        def private(path: str, flags: int) -> int:
            return os.open(path, flags, 0o600)

        return open(self.baseFilename, self.mode, encoding=self.encoding, errors=self.errors, opener=private)  # type: ignore[return-value]


def _file_logger(path: Path, max_bytes: int) -> logging.Logger:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = PrivateRotatingFile(
        path, maxBytes=max_bytes, backupCount=KEPT_LOG_FILES, encoding="utf-8", errors="replace"
    )
    path.chmod(0o600)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.Logger("agentcom_sidecar.file")  # noqa: LOG001 - private: nothing else may write to this file
    logger.addHandler(handler)
    return logger
