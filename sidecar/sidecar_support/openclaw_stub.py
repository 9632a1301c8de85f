"""Stands in for the ``openclaw`` program: the JSON of its Gateway calls, and a turn that does what its message says.

``openclaw_stub.py STATE gateway call METHOD ...``, ``... agent exec ...``. The folder STATE holds what the Gateway
knows (``runs/``, ``instance``), what it was asked (``calls``), what its agent is to do (``behaviour.json``) and saw.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from sidecar_support.gates import Gates

Answer = tuple[dict[str, Any] | list[dict[str, Any]], int]


def write(path: Path, value: Any) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


def refusal(error_type: str, message: str, **more: Any) -> Answer:
    return {"ok": False, "error": {"type": error_type, "message": message, **more}}, 1


class Gateway:
    def __init__(self, state: Path) -> None:
        self.state = state
        self.gates = Gates(state)
        (state / "runs").mkdir(exist_ok=True)

    def call(self, method: str, params: dict[str, Any]) -> Answer:
        with (self.state / "calls").open("a") as calls:
            calls.write(json.dumps({"method": method, "params": params}) + "\n")
        if (self.state / "down").exists():
            return refusal("gateway_transport_error", "Gateway not reachable (ECONNREFUSED).", kind="closed")
        match method:
            case "system-presence":
                return [{"mode": "gateway", "instanceId": (self.state / "instance").read_text()}], 0
            case "agent":
                return self.agent(params)
            case "agent.wait":
                return self.wait(params["runId"], params["timeoutMs"] / 1000), 0
            case "chat.abort":
                return self.abort(params["runId"]), 0
            case _:
                return refusal("gateway_request_error", f"unknown method {method}", code="INVALID_REQUEST")

    def path(self, key: str) -> Path:
        return self.state / "runs" / key.replace(":", "+")

    def run(self, key: str) -> dict[str, Any] | None:
        try:
            stored: dict[str, Any] = json.loads(self.path(key).read_text())
            return stored
        except FileNotFoundError:
            return None

    def agent(self, params: dict[str, Any]) -> Answer:
        if params["agentId"] != "main":
            return refusal(
                "gateway_request_error",
                f'invalid agent params: unknown agent id "{params["agentId"]}"',
                code="INVALID_REQUEST",
                retryable=False,
            )
        self.gates.pass_("before-accept")
        key = params["idempotencyKey"]
        known = self.run(key)
        if known is not None:
            return {**known, "status": known.get("status", "in_flight")}, 0
        write(self.path(key), {"runId": key})
        write(self.state / "turn.json", params)
        turn = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(self.state), "turn", key],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.state / "turn-errors").open("ab"),
            start_new_session=True,
        )
        (self.state / "turn-pid").write_text(str(turn.pid))
        self.gates.pass_("after-accept")
        answer = {"runId": key, "sessionKey": params["sessionKey"], "status": "accepted", "acceptedAt": 1}
        return answer, 0

    def wait(self, key: str, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while True:
            known = self.run(key)
            if known is not None and "status" in known:
                return known
            if time.monotonic() >= deadline:
                return {"runId": key, "status": "timeout"}
            time.sleep(0.02)

    def abort(self, key: str) -> dict[str, Any]:
        known = self.run(key)
        if known is None or "status" in known:
            return {"ok": True, "aborted": False, "runIds": []}
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int((self.state / "turn-pid").read_text()), signal.SIGKILL)
        write(self.path(key), {"runId": key, "status": "error", "endedAt": 1, "stopReason": "rpc"})
        return {"ok": True, "aborted": True, "runIds": [key]}

    def turn(self, key: str) -> None:
        message = json.loads((self.state / "turn.json").read_text())["message"]
        end = do_turn(self.state, message)
        write(self.path(key), {"runId": key, "endedAt": 1, **end})


def do_turn(state: Path, message: str) -> dict[str, Any]:
    """What an agent does that follows the message; returns how the turn ended."""
    gates = Gates(state)
    with (state / "turns").open("a") as turns:
        turns.write("turn\n")
    (state / "message").write_text(message)
    fenced = re.search(r"-----BEGIN TASK (\w+)-----\n(.*)\n-----END TASK \1-----\n", message, re.DOTALL)
    description = fenced[2].encode() if fenced else Path(must_find(r"UTF-8 text\) from\n(.*)\n", message)).read_bytes()
    (state / "description").write_bytes(description)
    behaviour = json.loads((state / "behaviour.json").read_text())
    gates.pass_("turn")
    Path(must_find(r"create the empty file\n +(.*)\n", message)).touch()
    gates.pass_("started")
    if behaviour.get("commit"):
        folder = must_find(r"Working folder: (.*) \(", message)
        (Path(folder) / behaviour["commit"]).write_text("work\n")
        for command in (["add", "--all"], ["commit", "--quiet", "-m", "feat: work"]):
            subprocess.run(["git", *command], cwd=folder, check=True)
        gates.pass_("committed")
    if behaviour.get("result") is not None:
        draft = Path(must_find(r"JSON object to\n +(.*)\n", message))
        draft.write_text(json.dumps(behaviour["result"]))
        draft.rename(must_find(r"rename that file to\n +(.*)\n", message))
    gates.pass_("result")
    return {"status": behaviour.get("status", "ok"), "stopReason": behaviour.get("reason", "stop")} | {
        "terminalReply": {"disposition": "visible", "text": behaviour.get("reply", "done")}
    }


def must_find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    if found is None:
        raise SystemExit(f"the message lacks {pattern}")
    return found[1]


def execute(state: Path, options: dict[str, str]) -> int:
    """``openclaw agent exec``."""
    os.chdir(options["--cwd"])
    end = do_turn(state, Path(options["--message-file"]).read_bytes().decode())
    ok = end["status"] == "ok"
    answer: dict[str, Any] = {"ok": ok, "status": end["status"], "final": end["terminalReply"]["text"]}
    answer["usage"] = {"input": 5, "output": 2, "total": 7}
    if not ok:
        answer["error"] = {"message": end["stopReason"], "kind": "model"}
    sys.stdout.write(json.dumps(answer) + "\n")
    return {"ok": 0, "timeout": 2}.get(end["status"], 1)


def main() -> int:
    state, words = Path(sys.argv[1]), sys.argv[2:]
    if words[0] == "turn":
        Gateway(state).turn(words[1])
        return 0
    options = {words[i]: words[i + 1] for i in range(len(words) - 1) if words[i].startswith("--")}
    if words[:2] == ["agent", "exec"]:
        return execute(state, options)
    answer, code = Gateway(state).call(words[2], json.loads(options["--params"]))
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
