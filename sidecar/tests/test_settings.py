"""The settings as a whole: documented, overridable, and the log file that one of them bounds."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import structlog

from agentcom_sidecar.branch_names import branch_name, component
from agentcom_sidecar.config import ConfigError, SidecarConfig, load_config
from agentcom_sidecar.logs import KEPT_LOG_FILES, configure_logging

README = Path(__file__).resolve().parent.parent / "README.md"
MINIMAL = {"agent_id": "w1", "token": "t" * 64, "hub_url": "ws://127.0.0.1:4000/ws"}


def write(folder: Path, **values: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(MINIMAL | values))
    path.chmod(0o600)
    return path


def test_every_setting_is_in_the_table_and_nothing_else() -> None:
    table = README.read_text(encoding="utf-8").partition("## Settings")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert documented == set(SidecarConfig.model_fields) - {"base_dir"}


def test_environment_replaces_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "CAPABILITIES": "code, docs",
        "ENV_ALLOW": '["A_*"]',
        "WAKE_COMMAND": "agent -m '${TASK_ID} x'",
        "WAKE_TIMEOUT_MS": "5000",
        "PULL_REQUESTS": "false",
        "STOP_AGENT_ON_EXIT": "true",
        "WAKE_MODE": "openclaw",
    }.items():
        monkeypatch.setenv(f"AGENTCOM_SIDECAR_{name}", value)
    config, _ = load_config(write(tmp_path, wake_timeout_ms=1))
    assert (config.capabilities, config.env_allow) == (["code", "docs"], ["A_*"])
    assert config.wake_command == ("agent", "-m", "${TASK_ID} x")
    assert (config.wake_timeout_ms, config.pull_requests, config.stops_agent_on_exit) == (5000, False, True)
    monkeypatch.setenv("AGENTCOM_SIDECAR_ENV_ALLOW", "[1,]")
    with pytest.raises(ConfigError, match="AGENTCOM_SIDECAR_ENV_ALLOW is not a valid JSON list"):
        load_config(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"wake_mode": "hook"}, "needs hook_url and hook_token"),
        ({"hook_url": "ftp://x"}, "'hook_url'"),
        ({"openclaw_agent": "../x"}, "'openclaw_agent'"),
        ({"base_branch": "-x"}, "'base_branch'"),
        ({"base_branch": "a..b"}, "'base_branch'"),
        ({"git_mode": "rebase"}, "'git_mode'"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, values: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        load_config(write(tmp_path, **values))


def test_defaults_follow_the_wake_mode(tmp_path: Path) -> None:
    command, _ = load_config(write(tmp_path))
    openclaw, _ = load_config(write(tmp_path, wake_mode="openclaw"))
    assert (command.result_mode, openclaw.result_mode) == ("auto", "file")
    assert (command.stops_agent_on_exit, openclaw.stops_agent_on_exit) == (True, False)
    assert command.worktrees == tmp_path / "data" / "worktrees"


@pytest.mark.parametrize(
    ("agent", "task", "text", "name"),
    [
        ("gcu-x", "task-1", "Fix: the BIG thing!", "gcu-x/task-1-fix-the-big-thing"),
        ("gcu-x", "task-1", "漢字", "gcu-x/task-1"),
        ("gcu-x", "task-1", "a" * 39 + " b", "gcu-x/task-1-" + "a" * 39),
    ],
)
def test_branches_are_named_by_agent_and_task(agent: str, task: str, text: str, name: str) -> None:
    assert branch_name(agent, task, text) == name


@pytest.mark.parametrize("text", ["a b", "..", "-x", "x.lock", "a..b", "@{", "ü", "a/b", "x."])
def test_what_a_reference_cannot_hold_is_told_apart_by_a_hash(text: str) -> None:
    made = component(text)
    assert re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.|lock$))*", made)
    assert made != component(text + "?")


def test_log_file_is_rotated_by_size_while_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.log"
    configure_logging(level="info", agent_id="w1", secret="", log_file=path, max_bytes=4096)
    for number in range(400):
        structlog.get_logger().info("line", number=number)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["sidecar.log", *(f"sidecar.log.{n}" for n in range(1, KEPT_LOG_FILES + 1))]
    assert all(file.stat().st_size <= 4096 for file in files)
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)
    assert json.loads(path.read_text().splitlines()[-1])["number"] == 399
