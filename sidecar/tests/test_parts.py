"""The parts on their own: configuration, template, result, report size, outbox, journal, log."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentcom_sidecar.config import ConfigError, load_config
from agentcom_sidecar.files import read_tail, to_json
from agentcom_sidecar.journal import Journal, Phase, Task
from agentcom_sidecar.logs import redact
from agentcom_sidecar.outbox import KEEP_REFUSED, Outbox, Report, ReportKey
from agentcom_sidecar.process import LockedError, is_locked, take_lock
from agentcom_sidecar.protocol import ReportType, cooldown_seconds, encode, fit_report
from agentcom_sidecar.result import Exit, MalformedResultError, from_exit, read_result
from agentcom_sidecar.wake import MAX_ARGUMENT_BYTES, Paths, Place, WakeError, build_argv

PATHS = Paths(
    task=Path("/w/task.json"),
    result=Path("/r/t1.json"),
    started=Path("/r/t1.started"),
    description=Path("/w/description.txt"),
    message=Path("/w/message.txt"),
)
MINIMAL = {"agent_id": "w1", "token": "t", "hub_url": "ws://127.0.0.1:4000/ws"}


def a_task(description: str = "d") -> Task:
    return Task(task_id="t1", generation=2, description=description, metadata={})


def filled(template: list[str], task: Task) -> list[str]:
    return build_argv(template, task, PATHS, Place(folder=Path("/w")), message="")


def write_config(folder: Path, values: Any, name: str = "config.json") -> Path:
    path = folder / name
    path.write_text(values if isinstance(values, str) else json.dumps(values))
    path.chmod(0o600)
    return path


# ---- configuration


def test_older_configuration_file_is_taken_as_it_is(tmp_path: Path) -> None:
    old = MINIMAL | {
        "hub_api_url": "http://h:4000",
        "repo_dir": "",
        "reviewer": "",
        "wake_command": 'openclaw agent --message "Task: ${TASK_JSON}" --session-id ${TASK_ID}',
        "capabilities": ["code"],
        "confirmation_timeout_ms": 0,
        "results_dir": "./results",
        "log_file": "./sidecar.log",
        "log_level": "warn",
    }
    config, warnings = load_config(write_config(tmp_path, old))
    assert warnings == []
    assert config.wake_command == ("openclaw", "agent", "--message", "Task: ${TASK_JSON}", "--session-id", "${TASK_ID}")
    assert config.results_dir == tmp_path / "results"
    assert (config.repo_dir, config.confirmation_timeout_ms, config.log_level) == (None, 30_000, "warning")


def test_toml_and_the_token_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCOM_SIDECAR_TOKEN", "from-env")
    text = 'agent_id = "w1"\nhub_url = "wss://h/ws"\nwake_command = ["a", "b c"]\nlog_file = ""\n'
    config, _ = load_config(write_config(tmp_path, text, "c.toml"))
    assert config.token.get_secret_value() == "from-env"
    assert (config.wake_command, config.log_file) == (("a", "b c"), None)


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({}, "lacks 'agent_id'"),
        ({"agent_id": "w1", "hub_url": "ws://h/ws"}, "lacks 'token' (or set AGENTCOM_SIDECAR_TOKEN)"),
        (MINIMAL | {"hub_url": "http://h"}, "must be a WebSocket address"),
        (MINIMAL | {"wake_command": "echo 'x"}, "cannot be split into arguments"),
        (MINIMAL | {"capabilities": "code"}, "'capabilities'"),
        (MINIMAL | {"capabilities": [""]}, "'capabilities'"),
        (MINIMAL | {"progress_interval_ms": -1}, "'progress_interval_ms'"),
        ("[1]", "must hold an object"),
        ("{", "is not valid JSON"),
    ],
)
def test_bad_configuration_is_one_sentence_without_the_value(
    tmp_path: Path, values: Any, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGENTCOM_SIDECAR_TOKEN", raising=False)
    with pytest.raises(ConfigError) as caught:
        load_config(write_config(tmp_path, values))
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_token_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write_config(tmp_path, MINIMAL | {"token": "secret\nsecret"}))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"wake_comand": "x"}, "'wake_comand'"),
        ({"hub_url": "ws://hub.example/ws"}, "not encrypted"),
        ({"wake_command": "a && b"}, "no meaning without a shell"),
        ({"log_level": "loud"}, "'loud'"),
    ],
)
def test_doubts_are_said_and_do_not_stop(tmp_path: Path, values: dict[str, Any], part: str) -> None:
    _, warnings = load_config(write_config(tmp_path, MINIMAL | values))
    assert len(warnings) == 1
    assert part in warnings[0]


def test_readable_token_is_a_doubt(tmp_path: Path) -> None:
    path = write_config(tmp_path, MINIMAL)
    path.chmod(0o644)
    assert "chmod 600" in load_config(path)[1][0]


# ---- template


def test_substituted_text_is_not_substituted_again() -> None:
    argv = filled(["${TASK_DESCRIPTION}|${TASK_ID}|${OTHER}"], a_task("${TASK_ID} $& \\1"))
    assert argv == ["${TASK_ID} $& \\1|t1|${OTHER}"]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200))
def test_any_description_stays_one_argument_byte_for_byte(text: str) -> None:
    argv = filled(["agent", "-m", "${TASK_DESCRIPTION}", "${TASK_JSON}"], a_task(text))
    assert argv[2] == text
    assert len(argv) == 4
    assert json.loads(argv[3])["description"] == text


def test_argument_limit_counts_bytes() -> None:
    fits = "é" * (MAX_ARGUMENT_BYTES // 2)
    assert filled(["${TASK_DESCRIPTION}"], a_task(fits)) == [fits]
    with pytest.raises(WakeError, match=r"^wake_argument_too_long: "):
        filled(["${TASK_DESCRIPTION}"], a_task(fits + "é"))
    with pytest.raises(WakeError, match=r"^wake_argument_invalid: "):
        filled(["${TASK_DESCRIPTION}"], a_task("a\0b"))


# ---- result


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"status":"failed","reason":"no"}', "no"),
        ('{"status":"failed","error":"bad"}', "bad"),
        ('{"status":"failed","reason":{"code":1}}', '{"code": 1}'),
        ('{"status":"partial"}', "unknown"),
        ("{}", "unknown"),
        ('{"reason":"' + "x" * 5000 + '"}', "x" * 1999 + "…"),
    ],
)
def test_anything_but_success_fails_with_the_reason(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "r").write_text(text)
    outcome = read_result(tmp_path / "r")
    assert outcome is not None
    assert (outcome.type, outcome.body) == (ReportType.FAILED, {"error": error})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '"success"',
        "{",
        '{"a": NaN}',
        '{"a": -1e400}',
        "[" * 100_000,
        "\xff",
        '{"a":' * 255 + "1" + "}" * 255,
    ],
)
def test_malformed_result_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "r").write_text(text, encoding="latin-1")
    with pytest.raises(MalformedResultError):
        read_result(tmp_path / "r")


def test_as_deep_a_result_as_the_hub_takes_can_be_kept(tmp_path: Path) -> None:
    text = '{"status":"success","a":' + "[" * 253 + "]" * 253 + "}"
    (tmp_path / "r").write_text(text)
    outcome = read_result(tmp_path / "r")
    assert outcome is not None
    assert to_json(asdict(outcome)) == to_json({"type": "task_complete", "body": {"result": json.loads(text)}})


def test_tokens_used_counts_only_as_an_integer(tmp_path: Path) -> None:
    for value, expected in (("7", 7), ("true", None), ('"7"', None), ("7.5", None), (str(2**53 + 1), None)):
        (tmp_path / "r").write_text(f'{{"status":"success","tokens_used":{value}}}')
        outcome = read_result(tmp_path / "r")
        assert outcome is not None
        assert outcome.body.get("tokens_used") == expected


def test_exit_statuses() -> None:
    def error(ended: Exit, *, need: Any = None, stderr: str = "", stdout: str = "") -> Any:
        return from_exit(ended, stdout=(stdout, False), stderr=stderr, need=need).body.get("error")

    assert error(Exit(returncode=2)) == "exit status 2"
    assert error(Exit(returncode=-9), stderr="x\n") == "killed by signal 9: x"
    assert error(Exit(returncode=0), need="file", stdout="much").startswith("no_result: ")
    assert error(Exit(returncode=0), stdout=" \n").startswith("no_result: ")
    assert error(Exit(returncode=0), stdout="done") is None
    assert error(Exit(returncode=0), need="auto") is None
    assert len(error(Exit(returncode=1), stderr="y" * 9000)) <= 2000
    assert error(Exit(start_error="cannot")) == "wake_command_failed: cannot"


# ---- report size


@given(st.text(max_size=3000), st.integers(400, 3000))
def test_report_fits_and_keeps_the_end(output: str, limit: int) -> None:
    frame = {
        "type": "task_complete",
        "task_id": "t1",
        "generation": 1,
        "result": {"status": "success", "output": output},
    }
    fitted = fit_report(frame, limit)
    assert len(encode(fitted)) <= limit
    if len(encode(frame)) > limit:
        assert fitted["result"]["output_truncated"] is True
        assert output.endswith(fitted["result"]["output"])
    else:
        assert fitted == frame


def test_report_that_is_large_without_output_keeps_status_and_tokens() -> None:
    result = {"status": "success", "files": ["x" * 100] * 100, "tokens_used": 5}
    frame = {"type": "task_complete", "task_id": "t1", "generation": 1, "result": result, "tokens_used": 5}
    fitted = fit_report(frame, 1000)
    assert len(encode(fitted)) <= 1000
    assert (fitted["result"]["status"], fitted["result"]["tokens_used"]) == ("success", 5)
    assert fitted["result"]["output_truncated"] is True


def test_lone_surrogates_can_be_encoded() -> None:
    assert json.loads(encode({"type": "x", "result": "\ud800"}))["result"] == "?"


# ---- disk


def test_outbox_survives_a_restart_in_order(tmp_path: Path) -> None:
    first, second = Report(ReportKey("t1", 1), ReportType.FAILED, {"error": "x"}), ReportKey("a", 2)
    outbox = Outbox(tmp_path)
    outbox.store(first)
    outbox.store(Report(second, ReportType.COMPLETE, {"result": {}}))
    again = Outbox(tmp_path)
    assert list(again.pending()) == [first.key, second]
    assert again.load(first.key) == first
    again.drop(first.key)
    again.store(Report(ReportKey("t3", 1), ReportType.CANCELLED, {}))
    assert list(Outbox(tmp_path).pending()) == [second, ReportKey("t3", 1)]
    assert os.stat(next(tmp_path.glob("outbox/*.json"))).st_mode & 0o777 == 0o600


def test_outbox_revives_only_superseded_completions(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for task_id, code in (("t1", "stale_generation"), ("t2", "not_found")):
        outbox.store(Report(ReportKey(task_id, 1), ReportType.COMPLETE, {"result": {"a": 1}}))
        outbox.refuse(ReportKey(task_id, 1), code)
    outbox.store(Report(ReportKey("t3", 1), ReportType.FAILED, {"error": "x"}))
    outbox.refuse(ReportKey("t3", 1), "stale_generation")
    assert outbox.superseded() == {"t1"}
    key = outbox.revive("t1", 5)
    assert key == ReportKey("t1", 5)
    assert outbox.load(key) == Report(key, ReportType.COMPLETE, {"result": {"a": 1}})
    assert outbox.superseded() == set()
    assert outbox.revive("t2", 5) is None


def test_refused_reports_are_kept_up_to_a_number(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for number in range(KEEP_REFUSED + 3):
        key = ReportKey(f"t{number}", 1)
        outbox.store(Report(key, ReportType.FAILED, {"error": "x"}))
        outbox.refuse(key, "not_found")
    kept = sorted(path.name for path in (tmp_path / "outbox" / "refused").iterdir())
    assert len(kept) == KEEP_REFUSED
    assert kept[-1].startswith("000000000203-t202-1.")


def test_journal_round_trip_and_garbage(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.load() is None
    task = Task(task_id="t1", generation=3, description="é", metadata={"a": [1]}, phase=Phase.RUNNING, started_at=1.5)
    journal.save(task)
    assert journal.load() == task
    journal.clear()
    assert journal.load() is None
    for text in ("", "[]", '{"task": 5}', '{"task": {}}', '{"task": {"phase": "x"}}'):
        (tmp_path / "journal.json").write_text(text)
        with pytest.raises(ValueError, match=r"\w"):
            journal.load()


def test_tail_does_not_split_a_character(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("é" * 10)
    assert read_tail(path, 5) == ("éé", True)
    assert read_tail(path, 20) == ("é" * 10, False)
    assert read_tail(tmp_path / "none", 5) == ("", False)


def test_lock_belongs_to_one_and_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    fd = take_lock(path, content="123")
    assert is_locked(path)
    with pytest.raises(LockedError) as caught:
        take_lock(path)
    assert caught.value.holder == "123"
    os.close(fd)
    assert not is_locked(path)


# ---- smaller things


def test_redaction_goes_by_key_and_by_value() -> None:
    data = {"token": "a", "nested": {"api_key": "b", "tokens_used": 5}, "list": ["has s3cret-value inside"]}
    assert redact("", data, "s3cret-value") == {
        "token": "[REDACTED]",
        "nested": {"api_key": "[REDACTED]", "tokens_used": 5},
        "list": ["has [REDACTED] inside"],
    }


def test_cooldown_is_read_from_the_reason() -> None:
    assert cooldown_seconds(1008, "cooldown: 57 seconds remaining") == 57
    assert cooldown_seconds(1008, "too many validation errors") == 30
    assert cooldown_seconds(1008, "10 violations; wait 60 s") == 60
    assert cooldown_seconds(1011, "5 s") == 0
