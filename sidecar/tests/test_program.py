"""The real program against a real socket: the way of one task, and what an operator sees."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from sidecar_support.eventually import eventually
from sidecar_support.hub import Hub
from sidecar_support.program import Program

Make = Callable[..., Program]

INJECTION = "\"; touch {marker}; $(touch {marker}) `touch {marker}` ${{TASK_ID}} $& $$ 'x' \\ \n é 漢字 🚀"


def sh(script: str, *arguments: str) -> list[str]:
    return ["/bin/sh", "-c", script, "sh", *arguments]


def settled(hub: Hub) -> Callable[[], bool]:
    return lambda: len(hub.settled) == 1


async def started(sidecar: Program, hub: Hub) -> Program:
    await sidecar.start()
    await eventually(lambda: hub.connected, what=sidecar.console())
    return sidecar


async def test_output_of_a_successful_agent_is_the_result(hub: Hub, program: Make) -> None:
    sidecar = await started(program(sh("cat >/dev/null; echo done; echo noise >&2"), capabilities=["code"]), hub)
    identify = hub.seen("identify")[0]
    assert identify["features"] == ["progress", "cancel", "recover"]
    assert (identify["client_type"], identify["protocol_version"], identify["capabilities"]) == ("sidecar", 1, ["code"])

    await hub.assign("task-1", generation=3)

    await eventually(settled(hub))
    assert hub.seen("task_accepted", task_id="task-1", generation=3)
    report = hub.settled[0]
    assert (report["type"], report["generation"]) == ("task_complete", 3)
    assert report["result"] == {"status": "success", "output": "done\n", "exit_code": 0}
    await eventually(lambda: not sidecar.outbox())
    assert sidecar.task_in_hand() is None
    assert not list((sidecar.folder / "data" / "runs").iterdir())


async def test_failing_agent_reports_status_and_stderr(hub: Hub, program: Make) -> None:
    await started(program(sh("echo first >&2; echo why it broke >&2; exit 3")), hub)
    await hub.assign("task-1")
    await eventually(settled(hub))
    assert hub.settled[0]["type"] == "task_failed"
    assert hub.settled[0]["error"] == "exit status 3: first\nwhy it broke"


async def test_missing_program_fails_the_task_with_its_name(hub: Hub, program: Make) -> None:
    await started(program(["/no/such/agent"]), hub)
    await hub.assign("task-1")
    await eventually(settled(hub))
    assert hub.settled[0]["error"] == "wake_command_failed: cannot start '/no/such/agent': No such file or directory"


async def test_result_file_wins_over_the_exit_status(hub: Hub, program: Make) -> None:
    result = '{"status":"success","output":"from file","tokens_used":42,"extra":[1]}'
    script = 'echo no; touch "$AGENTCOM_STARTED_FILE"; printf %s "$1" > "$AGENTCOM_RESULT_FILE"; exit 7'
    sidecar = await started(program(sh(script, result)), hub)
    await hub.assign("task-1")
    await eventually(settled(hub))
    report = hub.settled[0]
    assert (report["type"], report["tokens_used"], report["result"]) == (
        "task_complete",
        42,
        {**json.loads(result), "output_tail": "no\n"},
    )
    assert not list((sidecar.folder / "results").iterdir())


async def test_result_is_awaited_without_a_wake_command(hub: Hub, program: Make) -> None:
    sidecar = await started(program(None), hub)
    await hub.assign("task-1")
    await eventually(lambda: sidecar.logged("wake_skipped"))
    target = sidecar.folder / "results" / "task-1.json"
    target.write_text('{"status": "fai')
    await eventually(lambda: len(hub.seen("task_progress")) > 3)
    assert not hub.settled
    target.write_text('{"status": "failed", "reason": "could not"}')
    await eventually(settled(hub))
    assert (hub.settled[0]["type"], hub.settled[0]["error"]) == ("task_failed", "could not")


async def test_progress_carries_the_generation_while_the_agent_works(hub: Hub, program: Make, tmp_path: Path) -> None:
    await started(program(sh(f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done")), hub)
    await hub.assign("task-1", generation=5)
    await eventually(lambda: len(hub.seen("task_progress", task_id="task-1", generation=5)) >= 3)
    (tmp_path / "go").touch()
    await eventually(settled(hub))


async def test_hostile_description_reaches_the_agent_byte_for_byte(hub: Hub, program: Make, tmp_path: Path) -> None:
    marker = tmp_path / "pwned"
    text = INJECTION.format(marker=marker)
    script = "import sys, json; print(json.dumps([sys.argv[1:], json.load(sys.stdin)['description']]))"
    command = f'{sys.executable} -c "{script}" \'Task: ${{TASK_JSON}}\' ${{TASK_ID}} "${{TASK_DESCRIPTION}}"'
    sidecar = await started(program(command), hub)
    await hub.assign("task-1", description=text)
    await eventually(settled(hub))
    arguments, from_stdin = json.loads(hub.settled[0]["result"]["output"])
    assert arguments[1:] == ["task-1", text]
    assert json.loads(arguments[0].removeprefix("Task: "))["description"] == text
    assert from_stdin == text
    assert not marker.exists()
    assert text not in sidecar.console()


async def test_large_unicode_task_through_file_and_stdin(hub: Hub, program: Make) -> None:
    text = "漢🚀é\u2028x" * 8_000
    script = (
        "import sys, json, os; a = json.load(sys.stdin); b = json.load(open(os.environ['AGENTCOM_TASK_FILE'])); "
        "assert a == b; sys.stdout.write(a['description']); sys.exit(oct(os.stat(sys.argv[1]).st_mode)[-3:] != '600')"
    )
    await started(program([sys.executable, "-X", "utf8", "-c", script, "${TASK_FILE}"]), hub)
    await hub.assign("task-1", description=text)
    await eventually(settled(hub))
    assert hub.settled[0]["result"]["output"] == text


async def test_too_long_argument_fails_with_the_alternative(hub: Hub, program: Make) -> None:
    await started(program("agent --message ${TASK_JSON}"), hub)
    await hub.assign("task-1", description="é" * 100_000)
    await eventually(settled(hub))
    assert hub.settled[0]["error"].startswith("wake_argument_too_long: ")
    assert "${TASK_FILE}" in hub.settled[0]["error"]


async def test_agent_that_never_reads_and_writes_too_much(hub: Hub, program: Make) -> None:
    script = "import sys; sys.stdout.write('x' * 3_000_000 + 'the end')"
    await started(program([sys.executable, "-c", script], output_limit_bytes=4096), hub)
    await hub.assign("task-1", description="y" * 200_000)
    await eventually(settled(hub))
    result = hub.settled[0]["result"]
    assert len(result["output"]) == 4096
    assert result["output"].endswith("xthe end")
    assert result["output_truncated"] is True


async def test_result_larger_than_a_frame_is_cut(hub: Hub, program: Make) -> None:
    script = (
        "import json, os; json.dump({'status': 'success', 'output': chr(1) * 900_000 + 'end', 'tokens_used': 7}, "
        "open(os.environ['AGENTCOM_RESULT_FILE'], 'w'))"
    )
    await started(program([sys.executable, "-c", script]), hub)
    await hub.assign("task-1")
    await eventually(settled(hub))
    result = hub.settled[0]["result"]
    assert result["output"].endswith("\x01end")
    assert (result["output_truncated"], result["tokens_used"]) == (True, 7)


async def test_environment_is_limited_and_without_the_token(hub: Hub, program: Make) -> None:
    sidecar = program([sys.executable, "-c", "import os, json; print(json.dumps(dict(os.environ)))"])
    sidecar.config |= {"token": "wrong", "env_allow": ["EXTRA_*", "AGENTCOM_SIDECAR_TOKEN"]}
    await sidecar.start(
        AGENTCOM_SIDECAR_TOKEN=hub.token, EXTRA_ONE="1", EXTRA_COPY=hub.token, SECRET_THING="no", LC_ALL="C.UTF-8"
    )
    await eventually(lambda: hub.connected)
    await hub.assign("task-1", generation=2)
    await eventually(settled(hub))
    environment = json.loads(hub.settled[0]["result"]["output"])
    assert environment["EXTRA_ONE"] == "1"
    assert environment["LC_ALL"] == "C.UTF-8"
    assert environment["PATH"] == os.environ["PATH"]
    assert environment["AGENTCOM_GENERATION"] == "2"
    assert environment["AGENTCOM_AGENT_ID"] == "w1"
    assert environment["AGENTCOM_RESULT_FILE"] == str(sidecar.folder / "results" / "task-1.json")
    assert not {"EXTRA_COPY", "SECRET_THING", "AGENTCOM_SIDECAR_TOKEN"} & set(environment)
    assert hub.token not in sidecar.console()


async def test_second_task_is_rejected_as_busy(hub: Hub, program: Make, tmp_path: Path) -> None:
    await started(program(sh(f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done")), hub)
    await hub.assign("task-1")
    await hub.assign("task-2", generation=4)
    await eventually(lambda: hub.seen("task_rejected", task_id="task-2", generation=4, reason="busy"))
    (tmp_path / "go").touch()
    await eventually(settled(hub))
    assert hub.settled[0]["task_id"] == "task-1"


async def test_older_hub_gets_no_frame_it_does_not_know(hub: Hub, program: Make, tmp_path: Path) -> None:
    hub.modern = False
    sidecar = await started(program(sh(f"while [ ! -e {tmp_path}/go ]; do sleep 0.02; done; echo done")), hub)
    await hub.assign("task-1")
    await hub.assign("task-2")
    await eventually(lambda: sidecar.logged("task_rejected"))
    (tmp_path / "go").touch()
    await eventually(settled(hub))
    await eventually(lambda: not sidecar.outbox())
    known = {"identify", "ping", "task_accepted", "task_progress", "task_complete"}
    assert {frame["type"] for frame in hub.frames} <= known


async def test_reassignment_of_the_running_task_is_adopted(hub: Hub, program: Make, tmp_path: Path) -> None:
    script = f"echo run >> {tmp_path}/runs; while [ ! -e {tmp_path}/go ]; do sleep 0.02; done"
    await started(program(sh(script)), hub)
    await hub.assign("task-1", generation=1)
    await eventually((tmp_path / "runs").exists)
    await hub.assign("task-1", generation=3)
    await eventually(lambda: hub.seen("task_accepted", generation=3))
    (tmp_path / "go").touch()
    await eventually(settled(hub))
    assert hub.settled[0]["generation"] == 3
    assert (tmp_path / "runs").read_text() == "run\n"


async def test_cancel_ends_the_whole_process_group(hub: Hub, program: Make, tmp_path: Path) -> None:
    child = "trap '' TERM; while :; do sleep 0.05; done"
    script = f'sh -c "{child}" & echo $! > {tmp_path}/child; wait'
    await started(program(sh(script), kill_grace_ms=200), hub)
    await hub.assign("task-1", generation=2)
    pid = int(await eventually(lambda: text_of(tmp_path / "child")))
    await hub.send({"type": "task_cancel", "task_id": "task-1", "generation": 2, "reason": "operator"})
    await eventually(settled(hub))
    assert (hub.settled[0]["type"], hub.settled[0]["generation"]) == ("task_cancelled", 2)
    await eventually(lambda: not is_running(pid))
    await hub.assign("task-2")
    await eventually(lambda: hub.seen("task_accepted", task_id="task-2"))


async def test_agent_that_takes_too_long_is_stopped(hub: Hub, program: Make) -> None:
    await started(program(sh("sleep 600"), wake_timeout_ms=200), hub)
    await hub.assign("task-1")
    await eventually(settled(hub))
    assert hub.settled[0]["error"].startswith("wake_timeout: ")


async def test_deferred_agent_must_confirm_and_may_answer_later(hub: Hub, program: Make, tmp_path: Path) -> None:
    script = f'[ -e {tmp_path}/quiet ] || touch "$AGENTCOM_STARTED_FILE"'
    sidecar = await started(program(sh(script), result="deferred", confirmation_timeout_ms=200), hub)
    await hub.assign("task-1")
    await eventually(lambda: sidecar.logged("confirmation_received"))
    (tmp_path / "results" / "task-1.json").write_text('{"status": "success"}')
    await eventually(settled(hub))
    assert hub.settled[0]["type"] == "task_complete"

    (tmp_path / "quiet").touch()
    await hub.assign("task-2")
    await eventually(lambda: len(hub.settled) == 2)
    assert hub.settled[1]["error"] == "confirmation_timeout"


async def test_invalid_task_id_never_becomes_a_file(hub: Hub, program: Make) -> None:
    await started(program(sh("exit 0")), hub)
    await hub.assign("../escape")
    await eventually(lambda: hub.seen("task_rejected", task_id="../escape", reason="invalid_task_id"))
    assert not hub.seen("task_accepted")


async def test_refused_token_ends_the_program_with_a_sentence(hub: Hub, program: Make) -> None:
    sidecar = program(sh("true"), token="wrong")
    await sidecar.start()
    assert await sidecar.wait() == 78
    assert "invalid_token" in sidecar.logged("terminal")[0]["reason"]
    assert "Traceback" not in sidecar.console()


async def test_replaced_sidecar_does_not_come_back(hub: Hub, program: Make) -> None:
    sidecar = await started(program(sh("true")), hub)
    await hub.close(4500, "replaced")
    assert await sidecar.wait() == 78
    assert "took over" in sidecar.logged("terminal")[0]["reason"]
    assert hub.connections == 1


async def test_other_closes_are_followed_by_a_reconnect(hub: Hub, program: Make) -> None:
    sidecar = await started(program(sh("true")), hub)
    for number, code in enumerate((1012, 4000, 1011), start=2):
        await hub.close(code)
        await eventually(lambda number=number: hub.connections == number and hub.connected)  # type: ignore[misc]
    assert [line["severity"] for line in sidecar.logged("ws_close")] == ["warning"] * 3


async def test_second_process_on_the_same_folder_refuses_to_start(hub: Hub, program: Make) -> None:
    first = await started(program(sh("true")), hub)
    second = program(sh("true"))
    await second.start()
    assert await second.wait() == 75
    assert f"Another sidecar (pid {first.pid}) already uses" in second.console()
    assert hub.connections == 1


async def test_terminate_ends_cleanly_and_the_agent_with_it(hub: Hub, program: Make, tmp_path: Path) -> None:
    sidecar = await started(program(sh(f"echo $$ >> {tmp_path}/pid; exec sleep 600")), hub)
    await hub.assign("task-1")
    pid = int(await eventually(lambda: text_of(tmp_path / "pid")))
    assert await sidecar.stop() == 0
    await eventually(lambda: hub.closes == [1000])
    assert not is_running(pid)
    assert [line["severity"] for line in sidecar.logged("ws_close")] == ["info"]
    assert (sidecar.task_in_hand() or {})["phase"] == "interrupted"

    await sidecar.start()
    await eventually(lambda: len((tmp_path / "pid").read_text().split()) == 2, what="the agent to be started again")
    assert hub.seen("task_recovering", task_id="task-1", generation=1)


async def test_unusable_configuration_is_one_sentence(program: Make) -> None:
    sidecar = program(sh("true"), hub_url="http://hub")
    await sidecar.start()
    assert await sidecar.wait() == 78
    assert sidecar.console().count("\n") == 1
    assert "'hub_url'" in sidecar.console()


async def test_silent_hub_is_dropped_after_a_missing_pong(hub: Hub, program: Make) -> None:
    sidecar = await started(program(sh("true"), ping_interval_ms=50, pong_timeout_ms=150), hub)
    await eventually(lambda: len(hub.seen("ping")) >= 2)
    assert hub.connections == 1
    answers = hub._answers
    hub._answers = lambda frame: [] if frame["type"] == "ping" else answers(frame)  # type: ignore[method-assign]
    await eventually(lambda: hub.connections >= 2)
    assert any(line["reason"] == "heartbeat_timeout" for line in sidecar.logged("ws_dropped"))


async def test_secrets_do_not_reach_the_log(hub: Hub, program: Make) -> None:
    sidecar = await started(program(sh("true")), hub)
    await hub.send({"type": "error", "error": f"bad thing with {hub.token}"})
    await eventually(lambda: sidecar.logged("hub_error"))
    assert "[REDACTED]" in sidecar.logged("hub_error")[0]["text"]
    assert hub.token not in sidecar.console() + (sidecar.folder / "sidecar.log").read_text()


def text_of(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


async def test_version_option() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agentcom_sidecar", "--version"), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert output == b"agentcom-sidecar 0.1.0\n"
