"""A model for OpenClaw's agents: streams chat completions, asks for the shell command that its message calls for."""

import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FENCED = re.compile(r"-----BEGIN TASK (\w+)-----\n(.*)\n-----END TASK \1-----\n", re.DOTALL)


class MockModel:
    """One tool call for each task, then a reply. ``gate`` is a file that the tool call waits for."""

    def __init__(self, gate: Path, log: Path) -> None:
        self.gate = gate
        self.log = log
        self.descriptions: list[str] = []
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def delta(self, messages: list[dict[str, Any]]) -> tuple[dict[str, Any], str]:
        """What the model answers, and why it stops."""
        text = "\n".join(_text(message) for message in messages if message["role"] == "user")
        fenced = FENCED.search(text)
        if fenced is None or any(message["role"] == "tool" for message in messages):
            return {"content": "The work is done."}, "stop"
        self.descriptions.append(fenced[2])
        started = _find(r"create the empty file\n +(.*)\n", text)
        draft, result = _find(r"JSON object to\n +(.*)\n", text), _find(r"rename that file to\n +(.*)\n", text)
        value = json.dumps({"status": "success", "output": "by the real OpenClaw"})
        command = (
            f"echo turn >> '{self.log}'; touch '{started}'; while [ ! -e '{self.gate}' ]; do sleep 0.1; done; "
            f"printf '%s' '{value}' > '{draft}'; mv '{draft}' '{result}'"
        )
        call = {"name": "exec", "arguments": json.dumps({"command": command})}
        return {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": call}]}, "tool_calls"


class _Handler(BaseHTTPRequestHandler):
    owner: MockModel

    def do_GET(self) -> None:
        """The list of models, by which OpenClaw sees whether the provider is there."""
        self._send("application/json", json.dumps({"object": "list", "data": [{"id": "m", "object": "model"}]}))

    def do_POST(self) -> None:
        """A completion, as a stream of events."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        delta, reason = self.owner.delta(body["messages"])
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        chunks = [_chunk({"role": "assistant"}), _chunk(delta), {**_chunk({}, reason), "usage": usage}]
        events = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
        self._send("text/event-stream", "".join([*events, "data: [DONE]\n\n"]))

    def _send(self, kind: str, text: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        """Quiet."""


def _chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": "m",
        "choices": [choice],
    }


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content or [] if isinstance(part, dict))


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    return found[1] if found else "/nonexistent"
