"""The log pipeline: what a line holds, and what it must never hold."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from agentcom.observe.logging import InvalidLogLevel, configure_logging, current_level, set_level
from agentcom.observe.redact import REDACTED, is_secret_name, redact, redact_text

TOKEN = "5f" * 32


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def out() -> io.StringIO:
    stream = io.StringIO()
    configure_logging(service="api", level="info", stream=stream)
    return stream


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_is_one_json_object_with_the_common_fields_first(out: io.StringIO) -> None:
    structlog.get_logger("agentcom.test").info("task_submitted", task_id="task-1", priority=2)
    (line,) = lines(out)
    assert list(line)[:5] == ["time", "severity", "message", "service", "pid"]
    assert line["time"].endswith("Z")
    assert len(line["time"]) == len("2026-01-01T00:00:00.000Z")
    assert (line["severity"], line["message"], line["service"]) == ("info", "task_submitted", "api")
    assert (line["task_id"], line["priority"], line["logger"]) == ("task-1", 2, "agentcom.test")


def test_bound_context_is_on_the_line(out: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger().bind(agent_id="a-1").warning("slow_consumer")
    (line,) = lines(out)
    assert (line["request_id"], line["agent_id"], line["severity"]) == ("r-1", "a-1", "warning")


def test_records_of_the_standard_library_take_the_same_way(out: io.StringIO) -> None:
    logging.getLogger("arq.worker").warning("job %s took %d ms", "j1", 12, extra={"color_message": "x", "job": "j1"})
    (line,) = lines(out)
    assert (line["message"], line["logger"], line["job"]) == ("job j1 took 12 ms", "arq.worker", "j1")
    assert "color_message" not in line
    assert "_record" not in line


def test_an_exception_is_text_on_the_same_line_without_its_secrets(out: io.StringIO) -> None:
    try:
        raise ValueError(f"bad token={TOKEN}")
    except ValueError:
        structlog.get_logger().exception("failed")
    (line,) = lines(out)
    assert "ValueError: bad token=" in line["exception"]
    assert TOKEN not in out.getvalue()


def test_a_caller_can_not_overwrite_the_common_fields(out: io.StringIO) -> None:
    structlog.get_logger().info("started", service="someone else", time="never")
    (line,) = lines(out)
    assert line["service"] == "api"
    assert line["time"] != "never"


def test_values_json_can_not_hold_do_not_lose_the_line(out: io.StringIO) -> None:
    structlog.get_logger().info("odd", huge=2**80, lone="\ud800", thing={1, 2})
    (line,) = lines(out)
    assert line["huge"] == 2**80
    assert line["thing"] == [1, 2]


def test_the_level_can_be_changed_while_running(out: io.StringIO) -> None:
    log = structlog.get_logger()
    log.debug("hidden")
    set_level("debug")
    log.debug("shown")
    set_level("error")
    log.warning("hidden")
    assert [line["message"] for line in lines(out)] == ["shown"]
    assert current_level() == "error"


def test_an_unknown_level_is_refused(out: io.StringIO) -> None:
    with pytest.raises(InvalidLogLevel, match="loud"):
        set_level("loud")
    assert current_level() == "info"


def test_pretty_output_is_for_people() -> None:
    stream = io.StringIO()
    configure_logging(service="api", fmt="pretty", stream=stream)
    structlog.get_logger().info("started", port=4000)
    assert "started" in stream.getvalue()
    assert "port=4000" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "Authorization",
        "AUTH_TOKEN",
        "enrolment_key",
        "api-key",
        "apikey",
        "client_secret",
        "Set-Cookie",
        "p_key",
    ],
)
def test_secret_names(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["tokens_used", "tokenizer", "idempotency_key", "public_key", "keys", "author", "task_id"]
)
def test_harmless_names(name: str) -> None:
    assert not is_secret_name(name)


def test_nested_secrets_are_replaced_and_the_rest_is_kept() -> None:
    value = {"headers": [{"authorization": "Bearer x"}, {"accept": "*/*"}], "n": 1, "token": None}
    assert redact(value) == {"headers": [{"authorization": REDACTED}, {"accept": "*/*"}], "n": 1, "token": None}
    assert value["headers"] == [{"authorization": "Bearer x"}, {"accept": "*/*"}], "the argument is not changed"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"agent {TOKEN} joined", f"agent {REDACTED} joined"),
        (f"GET /ws?token={TOKEN}&vsn=1", f"GET /ws?token={REDACTED}&vsn=1"),
        ("GET /ws?token=short&vsn=1", f"GET /ws?token={REDACTED}&vsn=1"),
        ("Authorization: Bearer abc.def", f"Authorization: Bearer {REDACTED}"),
        ("redis://user:hunter2@db:6379/0", f"redis://user:{REDACTED}@db:6379/0"),
        ("redis://:hunter2@db:6379/0", f"redis://:{REDACTED}@db:6379/0"),
        ('{"token": "abc", "n": 1}', f'{{"token": "{REDACTED}", "n": 1}}'),
        ("password=hunter2", f"password={REDACTED}"),
        ("tokens_used=120", "tokens_used=120"),
        ("the token was refused", "the token was refused"),
        ("sha1 " + "a" * 40, "sha1 " + "a" * 40),
    ],
)
def test_secrets_in_texts(text: str, expected: str) -> None:
    assert redact_text(text) == expected


def test_a_value_nested_without_end_is_cut() -> None:
    value: dict[str, Any] = {}
    value["self"] = value
    assert "[TOO DEEP]" in str(redact(value))
