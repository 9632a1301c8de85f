"""One JSON object for each log line, on stdout.

Fields: ``time`` (ISO-8601 UTC, milliseconds), ``severity``, ``message`` (a stable event name, or a library's sentence),
``service``, ``pid``, ``logger``, then whatever was bound or passed. On a terminal the same events are printed in colour
instead. Records of the standard library's ``logging`` (uvicorn, arq, redis) go through the same processors.

Log with ``structlog.get_logger()``; add context for the current task with ``structlog.contextvars.bound_contextvars``.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Literal, TextIO

import orjson
import structlog
from structlog.types import EventDict, Processor, WrappedLogger

from agentcom.observe.redact import redact

LogFormat = Literal["auto", "json", "pretty"]

NOTICE: Final = 25
LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "notice": NOTICE,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
# Their info lines repeat what the services say themselves.
_CHATTY: Final = ("httpcore", "httpx", "uvicorn.error", "websockets")


class InvalidLogLevel(ValueError):
    """The log level is none of debug, info, notice, warning and error."""


def configure_logging(
    *, service: str, level: str = "info", fmt: LogFormat = "auto", stream: TextIO | None = None
) -> None:
    """Send every log of this process through one pipeline; calling it again replaces the previous set-up.

    ``fmt`` ``auto`` prints for people on a terminal and JSON lines otherwise.
    """
    out = sys.stdout if stream is None else stream
    pretty = fmt == "pretty" or (fmt == "auto" and out.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        _Stamp(service),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact_event,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderer(pretty=pretty, colors=out.isatty()),
            ],
        )
    )
    root = logging.getLogger()
    for previous in list(root.handlers):
        root.removeHandler(previous)
    root.addHandler(handler)
    logging.addLevelName(NOTICE, "NOTICE")
    logging.captureWarnings(capture=True)
    set_level(level)


def set_level(level: str) -> None:
    """Change the least severity of this process at once. Raises InvalidLogLevel."""
    if level not in LEVELS:
        raise InvalidLogLevel(f"log level {level!r} is none of {', '.join(LEVELS)}")
    number = LEVELS[level]
    logging.getLogger().setLevel(number)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(number if number <= logging.DEBUG else max(number, logging.WARNING))


def current_level() -> str:
    """The least severity of this process, by name."""
    number = logging.getLogger().level
    return next((name for name, value in LEVELS.items() if value == number), logging.getLevelName(number).lower())


def redact_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Processor: replace secrets in the event and in everything bound to it, but keep structlog's own entries."""
    own = {key: event.pop(key) for key in ("_record", "_from_structlog") if key in event}
    clean = redact(event)
    assert isinstance(clean, dict)  # noqa: S101 - a mapping stays one
    return {**clean, **own}


class _Stamp:
    """Processor: name the fields that every line has."""

    def __init__(self, service: str) -> None:
        self._service = service

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event.pop("color_message", None)  # uvicorn's second copy of its message, with escape codes
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        head: EventDict = {
            "time": now,
            "severity": event.pop("level", "info"),
            "message": event.pop("event", ""),
            "service": self._service,
            "pid": os.getpid(),
        }
        head.update((key, value) for key, value in event.items() if key not in head)
        return head


def _renderer(*, pretty: bool, colors: bool) -> Sequence[Processor]:
    if not pretty:
        return [_render_json]
    return [
        _for_people,
        structlog.dev.ConsoleRenderer(colors=colors, sort_keys=False, timestamp_key="time", pad_event_to=32),
    ]


def _for_people(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["event"] = event.pop("message")
    event["level"] = event.pop("severity")
    event["time"] = event["time"][11:23]
    del event["pid"]
    return event


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    try:
        return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # integers past 64 bits, lone surrogates
        return json.dumps(event, default=str, ensure_ascii=True)
