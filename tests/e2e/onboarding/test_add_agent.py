"""``add-agent`` on a fresh home folder, against a real hub."""

from __future__ import annotations

import io
import json
import random
import subprocess
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from agentcom_sidecar import agent_names
from agentcom_sidecar.onboarding.begin import Mode, Request, onboard
from agentcom_sidecar.onboarding.display import StepDisplay
from sidecar_support.workshop import Workshop
from tests.support.machine import LocalHub, Machine, Meddler, all_command_lines, new_name

pytestmark = pytest.mark.e2e


def snapshot(folder: Path) -> dict[str, bytes]:
    """What a folder holds, but for the lock, in which every command writes who it is."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".onboard.lock")
    return {str(path): path.read_bytes() for path in paths}


def make_repository(folder: Path) -> str:
    """A repository with one commit, to clone from."""
    folder.mkdir()
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    for arguments in (("init", "-q", "-b", "main"), (*identity, "commit", "-q", "--allow-empty", "-m", "first")):
        subprocess.run(["git", "-C", str(folder), *arguments], check=True)
    return str(folder)


def test_one_command_leads_to_an_agent_that_has_done_a_task(local_hub: LocalHub, machine: Machine) -> None:
    done = machine.add_agent(local_hub, "--no-repo", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    name = result["agent_id"]
    assert name.removeprefix("gcu-") in agent_names.SHIPS
    assert list(result["steps"]) == ["register", "clone", "config", "process", "verify"]
    assert "[6/6] Check the agent with a first task: passed" in done.stderr

    with local_hub.client() as client:
        task = client.get(f"/api/tasks/{result['verified']['task_id']}").json()
    assert (task["status"], task["assigned_to"], task["target_agent"]) == ("completed", name, name)
    assert task["result"]["output"] == f"done by {name}\n", "the result is not what the wake command printed"
    assert (machine.home / f"seen-{task['id']}").exists()

    config = machine.config(name)
    assert config["agent_id"] == name
    assert config["capabilities"] == ["code"]
    assert config["hub_url"] == f"ws://127.0.0.1:{local_hub.port}/ws"
    assert machine.progress(name)["token"] is None, "the token is kept in two places"
    for path in (machine.folder(name), machine.folder(name).parent):
        assert path.stat().st_mode & 0o777 == 0o700
    for file in ("config.json", ".onboard-progress.json"):
        assert (machine.folder(name) / file).stat().st_mode & 0o777 == 0o600
    assert machine.processes() == [], "the sidecar for the check still runs"


@pytest.mark.slow
def test_the_summary_is_for_people_and_every_step_is_a_line(local_hub: LocalHub, machine: Machine) -> None:
    name = new_name()
    done = machine.add_agent(local_hub, "--no-repo", "--name", name)
    assert done.returncode == 0, done.stdout + done.stderr
    for number in range(1, 7):
        assert f"[{number}/6]" in done.stdout
    assert f"{name} is set up." in done.stdout
    assert f"agentcom-sidecar run --config {machine.folder(name)}/config.json" in done.stdout
    assert "\x1b" not in done.stdout, "control sequences without a terminal"


@pytest.mark.slow
def test_a_repository_is_cloned_and_becomes_the_working_folder(local_hub: LocalHub, machine: Machine) -> None:
    name, origin = new_name(), make_repository(machine.home / "origin")
    done = machine.add_agent(local_hub, "--repo", origin, "--name", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert machine.config(name)["repo_dir"] == str(machine.folder(name) / "repo")
    assert (machine.folder(name) / "repo" / ".git").is_dir()


def test_a_repository_that_cannot_be_cloned_is_said_and_mended(local_hub: LocalHub, machine: Machine) -> None:
    name = new_name()
    failed = machine.add_agent(local_hub, "--repo", "file:///nowhere/at/all", "--name", name)
    assert failed.returncode == 1
    assert "could not be cloned" in failed.stderr
    assert f"agentcom-sidecar add-agent --resume --name {name}" in failed.stderr
    mended = machine.run("add-agent", "--resume", "--name", name, "--no-repo")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert "Register" in mended.stdout
    assert "skipped, there is a token" in mended.stdout


@pytest.mark.parametrize("url", ["ext::sh -c touch% /tmp/pwned", "https://someone:secret@example.org/x.git", "-u"])
def test_an_address_that_would_run_or_leak_something_is_refused(
    local_hub: LocalHub, machine: Machine, url: str
) -> None:
    done = machine.invoke("add-agent", *machine.add_agent_options(local_hub), f"--repo={url}")
    assert done.exit_code == 1
    assert "repository" in done.output
    assert not (machine.home / ".agentcom").exists()
    assert "secret" not in done.output
    assert not Path("/tmp/pwned").exists()


def test_all_problems_are_found_at_once_and_nothing_is_changed(machine: Machine) -> None:
    machine.script("pm2", "#!/bin/sh\necho 'pm2 needs a newer Node.js' >&2\nexit 1\n")
    done = machine.run(
        "add-agent", "--hub", "http://127.0.0.1:9", "--wake-command", "no-such-program", "--process-manager", "pm2"
    )
    assert done.returncode == 1
    assert "3 things are not as needed; nothing was changed" in done.stderr
    for problem in ("cannot be reached", "pm2 needs a newer Node.js", "'no-such-program', is not on the PATH"):
        assert problem in done.stderr
    assert not (machine.home / ".agentcom").exists()


def test_openclaw_is_looked_at_only_if_it_is_used(local_hub: LocalHub, machine: Machine) -> None:
    missing = machine.run("add-agent", "--hub", local_hub.url, "--openclaw", "--no-repo", "--process-manager", "none")
    assert missing.returncode == 1
    assert "openclaw is not on the PATH" in missing.stderr
    machine.script(
        "openclaw", "#!/bin/sh\n[ \"$1\" = --version ] && echo 1 && exit\necho 'connect ECONNREFUSED' >&2; exit 1\n"
    )
    asleep = machine.run("add-agent", "--hub", local_hub.url, "--openclaw", "--no-repo", "--process-manager", "none")
    assert "OpenClaw's gateway does not answer: connect ECONNREFUSED" in asleep.stderr
    inside = machine.run("add-agent", "--hub", local_hub.url, "--openclaw", OPENCLAW_SHELL="exec")
    assert "inside an OpenClaw agent" in inside.stderr


def test_it_must_be_said_how_the_agent_is_woken(local_hub: LocalHub, machine: Machine) -> None:
    done = machine.run("add-agent", "--hub", local_hub.url, "--no-repo", "--process-manager", "none")
    assert done.returncode == 1
    assert "--wake-command" in done.stderr


@pytest.mark.parametrize("name", ["..", "Upper", "a b", "-x", "x" * 64, "broadcast", "a/b", "$(id)", ""])
def test_a_name_that_is_not_one_is_refused(machine: Machine, name: str) -> None:
    done = machine.invoke("add-agent", "--hub", "http://127.0.0.1:9", f"--name={name}")
    assert done.exit_code == 2
    assert "The name" in done.stderr
    assert not (machine.home / ".agentcom").exists()


def test_a_name_that_is_taken_leads_to_three_ways_out(local_hub: LocalHub, machine: Machine) -> None:
    name = new_name()
    with local_hub.client() as client:
        client.post("/api/onboard/register", json={"agent_id": name}).raise_for_status()
    done = machine.add_agent(local_hub, "--no-repo", "--name", name, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"] == "name_taken"
    assert len(json.loads(done.stdout)["advice"]) == 3
    assert not machine.folder(name).exists(), "the next attempt would find a setup that never began"


def test_a_drawn_name_that_is_taken_is_drawn_again(
    local_hub: LocalHub, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (f"gcu-{ship}" for ship in agent_names.SHIPS[:2])
    monkeypatch.setenv("AGENTCOM_HOME", str(machine.home / ".agentcom"))
    monkeypatch.setattr(random, "choice", lambda names: names[0])
    with local_hub.client() as client:
        client.post("/api/onboard/register", json={"agent_id": first})
        given = {"hub_url": local_hub.url, "wake": "none", "repo": "", "process_manager": "none"}
        shown = Console(file=io.StringIO())
        try:
            ready = onboard(Request(mode=Mode.NEW, name=None, given=given), StepDisplay(shown))
            assert ready.place.name == second
            assert not machine.folder(first).exists()
        finally:
            for name in (first, second):
                client.delete(f"/admin/tokens/{name}")


def test_a_second_setup_of_the_same_agent_is_refused(local_hub: LocalHub, machine: Machine) -> None:
    machine.folder("first").mkdir(parents=True)
    (machine.folder("first") / "config.json").write_text("{}")
    again = machine.invoke("add-agent", *machine.add_agent_options(local_hub), "--no-repo", "--name", "first")
    assert again.exit_code == 1
    assert "already exists" in again.stderr
    assert list(snapshot(machine.folder("first")).values()) == [b"{}"]


# -- the enrolment key -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_enrolment_key_comes_from_a_file_or_the_environment(tmp_path: Path, machine: Machine) -> None:
    key = "an-enrolment-key-of-some-length"
    hub = LocalHub(tmp_path, AGENTCOM_ENROLMENT_KEY=key)
    hub.start()
    try:
        name = new_name()
        without = machine.add_agent(hub, "--no-repo", "--name", name)
        assert without.returncode == 77
        assert "--enrolment-key-file" in without.stderr
        file = machine.home / "key"
        file.write_text(f"{key}\n")
        resumed = machine.run("add-agent", "--resume", "--enrolment-key-file", file)
        assert resumed.returncode == 0, resumed.stdout + resumed.stderr
        assert machine.add_agent(hub, "--no-repo", AGENTCOM_ENROLMENT_KEY=key).returncode == 0
        kept = b"".join(snapshot(machine.home / ".agentcom").values())
        assert key.encode() not in kept
    finally:
        hub.stop()


# -- a registration whose answer was lost ----------------------------------------------------------------------------


def test_a_registration_whose_answer_was_lost_is_made_again(local_hub: LocalHub, machine: Machine) -> None:
    name = new_name()
    with Meddler(local_hub) as proxy:
        proxy.rules["POST", "/api/onboard/register"] = 0
        lost = machine.add_agent(proxy.url, "--no-repo", "--name", name, "--ws-url", _ws(local_hub))
        assert lost.returncode == 69
        assert machine.progress(name)["registration"] == "sent"
        proxy.rules.clear()
        resumed = machine.run("add-agent", "--resume", "--name", name)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "passed by task-" in resumed.stdout


def test_one_lost_answer_to_a_registration_is_not_noticed(local_hub: LocalHub, machine: Machine) -> None:
    with Meddler(local_hub) as proxy:
        proxy.rules["POST", "/api/onboard/register"] = Meddler.LOST_ONCE
        done = machine.add_agent(proxy.url, "--no-repo", "--ws-url", _ws(local_hub))
        assert proxy.seen.count(("POST", "/api/onboard/register")) == 2
    assert done.returncode == 0, done.stdout + done.stderr


def test_where_the_hub_chooses_the_token_one_lost_answer_loses_it(local_hub: LocalHub, machine: Machine) -> None:
    """The second attempt finds the name taken, by the first."""
    name = new_name()
    with Meddler(local_hub, chooses_tokens=True) as proxy:
        proxy.rules["POST", "/api/onboard/register"] = Meddler.LOST_ONCE
        lost = machine.add_agent(proxy.url, "--no-repo", "--name", name)
    assert lost.returncode == 1
    assert "its token is lost" in lost.stderr
    assert machine.progress(name)["registration"] == "sent"


def test_where_the_hub_chooses_the_token_an_admin_mends_a_lost_registration(
    local_hub: LocalHub, machine: Machine
) -> None:
    name = new_name()
    with Meddler(local_hub, chooses_tokens=True) as proxy:
        proxy.rules["POST", "/api/onboard/register"] = 0
        lost = machine.add_agent(proxy.url, "--no-repo", "--name", name)
        assert lost.returncode == 69
        assert machine.progress(name)["registration"] == "sent"

        proxy.rules.clear()
        resumed = machine.run("add-agent", "--resume", "--name", name)
        assert resumed.returncode == 1
        assert "its token is lost" in resumed.stderr
        assert "--admin-token-file" in resumed.stderr

        file = local_hub.admin_token_file
        mended = machine.run(
            "add-agent", "--resume", "--name", name, "--admin-token-file", file, "--ws-url", _ws(local_hub)
        )
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert "passed by task-" in mended.stdout


@pytest.mark.slow
def test_a_registration_that_was_never_received_is_simply_made_again(local_hub: LocalHub, machine: Machine) -> None:
    name = new_name()
    with Meddler(local_hub) as proxy:
        proxy.rules["POST", "/api/onboard/register"] = 503
        failed = machine.add_agent(proxy.url, "--no-repo", "--name", name, "--ws-url", _ws(local_hub))
        assert failed.returncode == 69
        assert machine.progress(name)["registration"] == "sent", "a hub that failed midway may have registered it"
        proxy.rules.clear()
        resumed = machine.run("add-agent", "--resume")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr


# -- rejoin ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_rejoin_over_an_existing_agent_keeps_its_clone_and_its_settings(local_hub: LocalHub, machine: Machine) -> None:
    name, origin = new_name(), make_repository(machine.home / "origin")
    assert machine.add_agent(local_hub, "--repo", origin, "--name", name, "--capability", "rust").returncode == 0
    config_path = machine.folder(name) / "config.json"
    config_path.write_text(json.dumps({**machine.config(name), "wake_timeout_ms": 1234567}))
    work = machine.folder(name) / "repo" / "unsaved"
    work.write_text("not to be lost")

    done = machine.run("add-agent", "--rejoin", "--name", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert work.read_text() == "not to be lost"
    assert machine.config(name)["capabilities"] == ["rust"]
    assert machine.config(name)["wake_timeout_ms"] == 1234567, "what the operator has set is gone"


@pytest.mark.parametrize("how", ["stdin", pytest.param("file", marks=pytest.mark.slow)])
def test_rejoin_on_a_new_machine_takes_the_token_from(local_hub: LocalHub, machine: Machine, how: str) -> None:
    name = new_name()
    with local_hub.client() as client:
        token = client.post("/api/onboard/register", json={"agent_id": name}).json()["token"]
    rejoin = [*machine.add_agent_options(local_hub), "--no-repo", "--rejoin", "--name", name]
    match how:
        case "file":
            (machine.home / "token").write_text(token + "\n")
            done = machine.run("add-agent", *rejoin, "--token-file", machine.home / "token")
        case _:
            done = machine.run("add-agent", *rejoin, "--token", "-", stdin=token + "\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert machine.config(name)["token"] == token


def test_rejoin_looks_at_the_token_before_it_changes_anything(local_hub: LocalHub, machine: Machine) -> None:
    name, other = new_name(), new_name()
    assert machine.add_agent(local_hub, "--no-repo", "--name", name).returncode == 0
    with local_hub.client() as client:
        others = client.post("/api/onboard/register", json={"agent_id": other}).json()["token"]
    before = snapshot(machine.folder(name))
    wrong = machine.run("add-agent", "--rejoin", "--name", name, AGENTCOM_TOKEN="0" * 64)
    assert wrong.returncode == 77
    assert "does not take the token" in wrong.stderr
    foreign = machine.run("add-agent", "--rejoin", "--name", name, AGENTCOM_TOKEN=others)
    assert foreign.returncode == 77
    assert f"not that of {name} but of {other}" in foreign.stderr
    assert snapshot(machine.folder(name)) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["--resume", "--rejoin", "--name", "x"],
        ["--rejoin"],
        ["--token", "abc"],
        ["--wake-command", "cat", "--openclaw"],
        ["--repo", "x", "--no-repo"],
        ["--hub", "ws://127.0.0.1/ws"],
        ["--hub", "example.org"],
        ["--hub", "http://user:pass@example.org"],
    ],
)
def test_options_that_do_not_go_together_are_refused(machine: Machine, arguments: list[str]) -> None:
    done = machine.invoke("add-agent", "--hub", "http://127.0.0.1:9", *arguments)
    assert done.exit_code == 2, done.stderr
    assert done.stderr.startswith("Error: ")
    assert "pass@" not in done.stderr


# -- a check that fails ----------------------------------------------------------------------------------------------


def test_an_agent_that_fails_its_first_task_is_not_called_working(local_hub: LocalHub, machine: Machine) -> None:
    name = new_name()
    broken = machine.script("broken", "#!/bin/sh\necho 'no API key' >&2\nexit 1\n")
    done = machine.add_agent(local_hub, "--no-repo", "--name", name, "--wake-command", broken)
    assert done.returncode == 1
    assert "no API key" in done.stderr
    assert f"agentcom-sidecar add-agent --resume --name {name}" in done.stderr
    mended = machine.run("add-agent", "--resume", "--name", name, "--wake-command", machine.agent)
    assert mended.returncode == 0, mended.stdout + mended.stderr


@pytest.mark.slow
def test_a_first_task_that_takes_too_long_is_withdrawn(local_hub: LocalHub, machine: Machine) -> None:
    name = new_name()
    slow = machine.script("slow", "#!/bin/sh\nexec sleep 600\n")
    done = machine.add_agent(
        local_hub, "--no-repo", "--name", name, "--wake-command", slow, "--verify-timeout", "1", "--json"
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"] == "verification_failed"
    with local_hub.client() as client:
        tasks = [task for task in client.get("/api/tasks").json()["tasks"] if task["target_agent"] == name]
    assert len(tasks) == 1
    assert tasks[0]["status"] == "cancelled" or tasks[0]["cancel_requested_at"] is not None


# -- secrets ---------------------------------------------------------------------------------------------------------


def test_no_token_is_shown_or_passed_on_a_command_line(local_hub: LocalHub, machine: Machine) -> None:
    name, origin = new_name(), make_repository(machine.home / "origin")
    recorder = 'echo "$0 $*" >> "$HOME/started"; env >> "$HOME/started"'
    machine.script("git", f'#!/bin/sh\n{recorder}\nexec /usr/bin/git "$@"\n')
    admin_token = local_hub.admin_token_file.read_text().strip()
    with all_command_lines() as command_lines:
        outputs = [machine.add_agent(local_hub, "--repo", origin, "--name", name, AGENTCOM_ADMIN_TOKEN=admin_token)]
        token = machine.config(name)["token"]
        outputs += [
            machine.run("submit", "hello", "--agent", name),
            machine.run("submit", "hello", "--hub", local_hub.url, "--json", AGENTCOM_TOKEN=token),
            machine.run("status", "--json"),
            machine.run("doctor"),
            machine.run("logs"),
            machine.run("add-agent", "--rejoin", "--name", name, AGENTCOM_TOKEN=token),
        ]
        kept = {
            path.relative_to(machine.home): path.stat().st_mode & 0o777
            for path in machine.home.rglob("*")
            if path.is_file() and token.encode() in path.read_bytes()
        }
        outputs.append(machine.run("remove-agent", name, "--force", AGENTCOM_ADMIN_TOKEN=admin_token))
    assert [done.returncode for done in outputs] == [0, 0, 0, 1, 1, 0, 0, 0], [done.stderr for done in outputs]
    started = (machine.home / "started").read_text()
    assert f"clone --quiet -- {origin}" in started
    assert any("agentcom_sidecar run --config" in line for line in command_lines), "the sidecar was not seen"
    for text in (*(done.stdout + done.stderr for done in outputs), started, *command_lines):
        assert token not in text
        assert admin_token not in text
    assert kept == {Path(".agentcom", name, "config.json"): 0o600}


@pytest.mark.slow
def test_a_token_on_the_command_line_is_taken_with_a_warning(local_hub: LocalHub, machine: Machine) -> None:
    admin_token = local_hub.admin_token_file.read_text().strip()
    done = machine.run("submit", "x", "--hub", local_hub.url, "--token", admin_token)
    assert done.returncode == 0
    assert "--token-file" in done.stderr


@pytest.mark.slow
def test_with_run_the_command_goes_on_as_the_sidecar(local_hub: LocalHub, machine: Machine) -> None:
    name = new_name()
    process = machine.spawn("add-agent", *machine.add_agent_options(local_hub), "--no-repo", "--name", name, "--run")
    assert process.stdout is not None
    for line in process.stdout:
        if '"message": "identified"' in line:
            break
    assert "run --config" in " ".join(psutil.Process(process.pid).cmdline())
    process.terminate()
    process.stdout.read()
    assert process.wait(30) == 0


def _ws(hub: LocalHub) -> str:
    return f"ws://127.0.0.1:{hub.port}/ws"


def test_an_openclaw_agent_is_set_up_and_checked_through_its_gateway(local_hub: LocalHub, machine: Machine) -> None:
    """The program is a stand-in that speaks OpenClaw's JSON."""
    name, workshop = new_name(), Workshop(machine.home / "openclaw-stand-in")
    workshop.behave(result={"status": "success", "output": "here"})
    stub = " ".join(f"'{word}'" for word in workshop.openclaw)
    answers = 'case $1 in --version) echo 1 ;; health) echo \'{"ok":true}\' ;; agents) echo \'[{"id":"main"}]\' ;; '
    machine.script("openclaw", f'#!/bin/sh\n{answers} *) exec {stub} "$@" ;; esac\n')
    options = ["--hub", local_hub.url, "--name", name, "--no-repo", "--process-manager", "none"]
    missing = machine.run("add-agent", *options, "--openclaw-agent", "writer")
    assert missing.returncode == 1
    assert "OpenClaw has no agent 'writer', only: main." in missing.stderr

    added = machine.run("add-agent", *options)
    assert added.returncode == 0, added.stdout + added.stderr
    calls = workshop.calls("agent")
    assert len({call["idempotencyKey"] for call in calls}) == 1, "more than one turn for one task"
    assert calls[0]["agentId"] == "main"
    assert f"AgentCom checks that {name} can be woken" in calls[0]["message"]
    doctor = json.loads(machine.run("doctor", "--json").stdout)
    assert "It answers and has the agent main." in {finding["text"] for finding in doctor["findings"]}
