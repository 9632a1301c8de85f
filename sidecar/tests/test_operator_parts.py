"""The parts of the operator's commands that need no hub."""

import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from rich.console import Console

from agentcom_sidecar.agent_names import PREFIX, SHIPS, draw_name, name_problem
from agentcom_sidecar.child import NOT_FOUND, TIMED_OUT, run_program
from agentcom_sidecar.commands.logs import log_lines, readable
from agentcom_sidecar.commands.status import AgentStatus, table
from agentcom_sidecar.commands.task_watch import changes
from agentcom_sidecar.config import load_config
from agentcom_sidecar.failure import Failure
from agentcom_sidecar.files import to_json, write_atomic
from agentcom_sidecar.hub_address import parse_hub
from agentcom_sidecar.installation import Installation, existing, installations, locked, running_pid
from agentcom_sidecar.invocation import SCRIPT, program
from agentcom_sidecar.journal import Journal, Task
from agentcom_sidecar.onboarding.display import StepDisplay
from agentcom_sidecar.onboarding.progress import Options, Progress, ProgressFile, Step, WakeMode, load_progress
from agentcom_sidecar.onboarding.settings import options_of, write_settings
from agentcom_sidecar.secrets_input import SecretSource
from agentcom_sidecar.unfinished_work import unfinished_work


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    made = Installation("w1", tmp_path / "agents" / "w1")
    made.create()
    return made


def progress_with(**options: Any) -> Progress:
    settled = Options.model_validate({"hub_url": "http://127.0.0.1:4000", **options})
    return Progress(agent_name="w1", options=settled, ws_url="ws://127.0.0.1:4000/ws")


# -- names -----------------------------------------------------------------------------------------------------------


def test_every_ship_is_a_name_that_may_be_used() -> None:
    assert len(set(SHIPS)) == len(SHIPS) >= 60
    assert [ship for ship in SHIPS if name_problem(PREFIX + ship)] == []


def test_a_taken_ship_is_not_drawn() -> None:
    free = PREFIX + SHIPS[7]
    taken = {PREFIX + ship for ship in SHIPS} - {free}
    assert draw_name(taken) == free
    assert draw_name(taken | {free}) is None


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "A", "a_b", "-a", "a\n", "ä", "x" * 64, "hub", "whitelist"])
def test_a_name_that_could_mean_something_else_is_refused(name: str) -> None:
    assert name_problem(name) is not None


# -- advice ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation in a virtual environment whose path needs quotes, and an empty PATH."""
    folder = tmp_path / "my tools" / "bin"
    folder.mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return _script(folder / SCRIPT)


def _script(path: Path) -> Path:
    path.write_text("#!/bin/sh\necho it is me\n")
    path.chmod(0o755)
    return path


def _pasted(command: str) -> str:
    return subprocess.run(command, shell=True, capture_output=True, text=True, executable="/bin/sh").stdout


def test_advice_names_the_program_as_the_shell_finds_it(own_script: Path, tmp_path: Path) -> None:
    (tmp_path / "bin" / SCRIPT).symlink_to(own_script)  # As pipx and uv do.
    assert program() == SCRIPT


def test_advice_names_the_script_that_is_not_on_the_path(own_script: Path, tmp_path: Path) -> None:
    assert _pasted(program()) == "it is me\n"
    _script(tmp_path / "bin" / SCRIPT).write_text("#!/bin/sh\necho another installation\n")
    assert _pasted(program()) == "it is me\n"


def test_advice_names_the_module_where_there_is_no_script(own_script: Path) -> None:
    own_script.unlink()
    own_script.with_name("python").write_text('#!/bin/sh\necho "$@"\n')
    own_script.with_name("python").chmod(0o755)
    assert _pasted(program()) == "-m agentcom_sidecar\n"


# -- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "url", "ws_url"),
    [
        ("http://localhost:4000/", "http://localhost:4000", "ws://localhost:4000/ws"),
        ("https://hub.example", "https://hub.example", "wss://hub.example/ws"),
        ("https://hub.example/agentcom//", "https://hub.example/agentcom", "wss://hub.example/agentcom/ws"),
        ("http://[::1]:4000", "http://[::1]:4000", "ws://[::1]:4000/ws"),
    ],
)
def test_the_websocket_address_belongs_to_the_hubs(given: str, url: str, ws_url: str) -> None:
    hub = parse_hub(given)
    assert (hub.url, hub.ws_url) == (url, ws_url)


@pytest.mark.parametrize("given", ["hub", "ftp://x", "http://", "http://x:0", "http://x:y", "http://x?a=b", "ws://x"])
def test_what_is_no_address_of_a_hub(given: str) -> None:
    with pytest.raises(Failure):
        parse_hub(given)


@pytest.mark.parametrize(
    ("hub", "offered", "chosen"),
    [
        ("http://hub:4000", "ws://hub:4001/ws", "ws://hub:4001/ws"),
        ("https://hub", "wss://sockets.hub/ws", "wss://sockets.hub/ws"),
        ("https://hub", "ws://hub:80/ws", "wss://hub/ws"),
        ("http://hub:4000", "ws://localhost:4000/ws", "ws://hub:4000/ws"),
        ("http://hub:4000", "ws://hub:/ws?token=x", "ws://hub:4000/ws"),
        ("http://hub:4000", "ws://hub:99999/ws", "ws://hub:4000/ws"),
        ("http://hub:4000", None, "ws://hub:4000/ws"),
    ],
)
def test_a_websocket_address_that_is_weaker_than_the_hubs_is_not_taken(hub: str, offered: object, chosen: str) -> None:
    assert parse_hub(hub).choose_ws_url(offered) == chosen


# -- secrets ---------------------------------------------------------------------------------------------------------


def test_where_a_secret_may_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_text("from-file\n")
    monkeypatch.setenv("SOME_TOKEN", "from-environment")

    def source(**ways: Any) -> SecretSource:
        return SecretSource(what="token", variable="SOME_TOKEN", **ways)

    assert source(file=file).read() == "from-file"
    assert source().read() == "from-environment"
    assert (source(value="given").read(), source(value="given").on_command_line) == ("given", True)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"from-stdin\nmore\n")))
    assert (source(value="-").read(), source(value="-").on_command_line) == ("from-stdin", False)
    monkeypatch.delenv("SOME_TOKEN")
    assert source().read() is None
    with pytest.raises(Failure, match="given twice"):
        source(value="x", file=file).read()


@pytest.mark.parametrize("content", [b"", b"two words", b"line\nline", b"\xff\xfe", b"x" * 5000])
def test_what_is_no_secret_is_refused_without_being_shown(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(Failure) as refused:
        SecretSource(what="token", variable="X", file=file).read()
    assert "two words" not in str(refused.value)


# -- other programs --------------------------------------------------------------------------------------------------


def test_a_program_is_run_without_terminal_and_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCOM_TOKEN", "s3cret")
    done = run_program(("sh", "-c", "env; cat; echo trouble >&2; exit 3"), timeout=10)
    assert (done.returncode, done.complaint, "s3cret" in done.stdout) == (3, "trouble", False)
    assert run_program(("no-such-program-anywhere",), timeout=1).returncode == NOT_FOUND
    started = time.monotonic()
    assert run_program(("sh", "-c", "sleep 60 & sleep 60"), timeout=0.2).returncode == TIMED_OUT
    assert time.monotonic() - started < 30


# -- installations ---------------------------------------------------------------------------------------------------


def test_only_agents_count_as_agents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTCOM_HOME", str(tmp_path))
    assert installations() == []
    with pytest.raises(Failure, match="no agent"):
        existing(None)
    for name in ("b", "a", "Not-One", "empty"):
        (tmp_path / name).mkdir()
    for name in ("b", "a", "Not-One"):
        (tmp_path / name / "config.json").write_text("{}")
    assert [each.name for each in installations()] == ["a", "b"]
    assert existing("b").folder == tmp_path / "b"
    with pytest.raises(Failure, match="several agents"):
        existing(None)


def test_a_folder_is_worked_on_by_one_command_and_cleared_of_what_a_killed_one_left(place: Installation) -> None:
    left_over = place.folder / "..onboard-progress.json.1.tmp"
    left_over.write_text("a token")
    with locked(place):
        assert not left_over.exists()
        with pytest.raises(Failure, match=f"process {os.getpid()}"), locked(place):
            pass
    with locked(place):
        pass


def test_a_stale_lock_file_is_no_running_sidecar(tmp_path: Path) -> None:
    assert running_pid(tmp_path) is None
    (tmp_path / "sidecar.lock").write_text(str(os.getpid()))
    assert running_pid(tmp_path) is None


# -- progress and settings -------------------------------------------------------------------------------------------


def test_progress_comes_back_as_it_was(place: Installation) -> None:
    progress = ProgressFile(place, progress_with(wake="command", wake_command=["a", "b c"]))
    progress.complete(Step.PREFLIGHT)
    progress.complete(Step.REGISTER, token=SecretStr("t" * 64), registration="done")
    assert load_progress(place) == progress.now
    assert place.progress_path.stat().st_mode & 0o777 == 0o600
    progress.complete(Step.CONFIG, token=None)
    assert "t" * 64 not in place.progress_path.read_text()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 2}', "\x00"])
def test_progress_that_cannot_be_read_is_said(place: Installation, content: str) -> None:
    place.progress_path.write_text(content)
    with pytest.raises(Failure, match="progress file"):
        load_progress(place)


def test_the_configuration_is_one_that_the_sidecar_takes(place: Installation) -> None:
    place.repo.mkdir()
    progress = progress_with(wake="command", wake_command=["my-agent", "${TASK_FILE}"], capabilities=["rust"])
    assert write_settings(place, progress, token="t" * 64)
    config, doubts = load_config(place.config_path)
    assert (config.agent_id, config.hub_url) == ("w1", "ws://127.0.0.1:4000/ws")
    assert (config.wake_command, config.capabilities) == (("my-agent", "${TASK_FILE}"), ["rust"])
    assert config.repo_dir == place.repo
    assert config.log_file == place.logs / "sidecar.log"
    assert not [doubt for doubt in doubts if "git repository" not in doubt]
    assert place.config_path.stat().st_mode & 0o777 == 0o600
    assert not write_settings(place, progress, token="t" * 64), "written again without need"


def test_what_the_operator_has_set_stays(place: Installation) -> None:
    write_settings(place, progress_with(wake="command", wake_command=["a"]), token="t" * 64)
    edited = {**json.loads(place.config_path.read_text()), "reviewer": "me", "wake_mode": "openclaw-exec"}
    place.config_path.write_text(json.dumps(edited))
    write_settings(place, progress_with(wake="openclaw", openclaw_agent="writer"), token="u" * 64)
    after = json.loads(place.config_path.read_text())
    assert (after["reviewer"], after["wake_mode"], after["openclaw_agent"]) == ("me", "openclaw-exec", "writer")
    assert (after["token"], "wake_command" in after) == ("u" * 64, False)
    assert options_of(place)["wake"] is WakeMode.OPENCLAW


# -- work that would be lost -----------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def clone(place: Installation, tmp_path: Path) -> Path:
    origin = tmp_path / "origin"
    origin.mkdir()
    git(origin, "init", "-q", "-b", "main")
    git(origin, "commit", "-q", "--allow-empty", "-m", "first")
    subprocess.run(["git", "clone", "-q", str(origin), str(place.repo)], check=True)
    write_settings(place, progress_with(wake="none"), token="t" * 64)
    return place.repo


def work(place: Installation) -> str:
    config, _ = place.load()
    return " ".join(unfinished_work(place, config))


def test_a_fresh_clone_holds_nothing_of_its_own(place: Installation, clone: Path) -> None:
    assert work(place) == ""


def test_uncommitted_changes_count_in_every_working_tree(place: Installation, clone: Path) -> None:
    tree = place.data / "worktrees" / "one"
    git(clone, "worktree", "add", "-q", "-b", "task", str(tree))
    assert work(place) == ""
    (tree / "new").write_text("x")
    assert f"{tree} has changes that are not committed." in work(place)


@pytest.mark.parametrize("where", ["branch", "detached"])
def test_commits_count_until_a_remote_has_them(place: Installation, clone: Path, where: str) -> None:
    git(clone, "switch", "-q", *(("-c", "task") if where == "branch" else ("--detach",)))
    git(clone, "commit", "-q", "--allow-empty", "-m", "work")
    assert "1 commit that no remote has" in work(place)
    git(clone, "push", "-q", "origin", "HEAD:refs/heads/task")
    assert work(place) == ""


def test_a_stash_counts(place: Installation, clone: Path) -> None:
    (clone / "file").write_text("1")
    git(clone, "add", ".")
    git(clone, "stash")
    assert work(place) == f"{clone} has stashed changes."


def test_a_task_in_hand_and_reports_count(place: Installation, clone: Path) -> None:
    Journal(place.data).save(Task(task_id="task-1", generation=1, metadata={}))
    outbox = place.data / "outbox"
    outbox.mkdir()
    write_atomic(outbox / "1-task-0.json", to_json({}))
    assert work(place) == "It works on task-1. 1 finished task is not reported to the hub yet."


def test_a_repository_elsewhere_stays_and_so_do_its_commits(place: Installation, clone: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "own"
    clone.rename(elsewhere)
    git(elsewhere, "commit", "-q", "--allow-empty", "-m", "work")
    (elsewhere / "new").write_text("x")
    config = {**json.loads(place.config_path.read_text()), "repo_dir": str(elsewhere)}
    place.config_path.write_text(json.dumps(config))
    assert work(place) == ""


# -- what is shown ---------------------------------------------------------------------------------------------------


def test_steps_are_plain_lines_without_a_terminal() -> None:
    shown = io.StringIO()
    display = StepDisplay(Console(file=shown))
    with display.step(Step.CLONE, "Clone [bold]it[/bold]") as line:
        line.tell("from [somewhere]")
        line.outcome = "skipped, it is there"
    with pytest.raises(Failure), display.step(Step.CONFIG, "Write"):
        raise Failure("no", code="no")
    assert shown.getvalue().splitlines() == [
        "[3/6] Clone [bold]it[/bold] ...",
        "      from [somewhere]",
        "[3/6] Clone [bold]it[/bold]: skipped, it is there",
        "[4/6] Write ...",
        "[4/6] Write: FAILED",
    ]


def test_on_a_terminal_the_running_step_has_a_spinner() -> None:
    shown = io.StringIO()
    display = StepDisplay(Console(file=shown, force_terminal=True, width=80))
    with display.step(Step.CLONE, "Clone"):
        pass
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue())
    assert "[3/6] Clone: done" in plain
    assert "\x1b[" in shown.getvalue()


def test_changes_of_a_task_in_words() -> None:
    queued = {"status": "queued", "generation": 0, "retry_count": 0}
    assigned = {**queued, "status": "assigned", "generation": 1, "assigned_to": "w1"}
    working = {**assigned, "accepted_at": 1, "progress": 40}
    retried = {**queued, "generation": 1, "retry_count": 1, "last_error": "boom"}
    dead = {**retried, "status": "dead_letter", "retry_count": 1}
    assert changes({}, queued) == ["queued"]
    assert changes(queued, assigned) == ["assigned to w1"]
    assert changes(assigned, working) == ["accepted by w1", "40 % done"]
    assert changes(working, working) == []
    assert changes(working, retried) == ["failed, to be tried again: boom", "queued"]
    assert changes(retried, dead) == ["dead letter: boom"]
    assert changes(queued, {**working, "status": "completed"})[0] == "completed"


def test_log_lines_for_people() -> None:
    line = {"time": "T", "severity": "info", "message": "identified", "pid": 1, "text": "two words", "n": [1]}
    assert readable(json.dumps(line)) == 'T info     identified text="two words" n=[1]'
    assert readable("Traceback") == "Traceback"


def test_a_log_is_followed_without_a_gap_through_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / "sidecar.log"
    log.write_text("one\ntwo\nthree\n")
    lines = log_lines(log, lines=2, follow=True)
    assert next(lines) == "two"
    with log.open("a") as file:
        file.write("four\n")
    assert [next(lines), next(lines)] == ["three", "four"]
    with log.open("a") as file:
        file.write("five\n")
    log.rename(tmp_path / "sidecar.log.1")
    log.write_text("six\nsev")
    assert [next(lines), next(lines)] == ["five", "six"]
    with log.open("a") as file:
        file.write("en\n")
    assert next(lines) == "seven"


def test_the_last_lines_of_a_log_are_whole(tmp_path: Path) -> None:
    log = tmp_path / "sidecar.log"
    log.write_text("".join(f"{number} {'x' * 3000}\n" for number in range(9)))
    assert [line.split()[0] for line in log_lines(log, lines=2, follow=False)] == ["8"]
    assert list(log_lines(log, lines=0, follow=False)) == []
    assert list(log_lines(tmp_path / "none", lines=2, follow=False)) == []


def test_names_and_ids_in_a_table_are_never_broken() -> None:
    name, task = "gcu-" + "x" * 59, "task-0123456789abcdef"
    working = AgentStatus(
        agent_id=name, process_manager="systemd", process="running", pid=7, connected=True, state="working", task=task
    )
    lines = table([working, AgentStatus(agent_id="w1")])
    assert lines[1] == f"{name}  running (systemd)  7    working  {task}  0"
    assert lines[2].split() == ["w1", "-", "-", "?", "-", "0"]
    assert lines[0].index("TASK") == lines[1].index(task)
