"""OpenClaw's HTTP hooks with the agent of `openclaw_stub`: one turn for each idempotency key."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sidecar_support.openclaw_stub import do_turn
from sidecar_support.workshop import Workshop

TOKEN = "h" * 40


class HookServer:
    """Listens on a port of its own; ``failures`` are HTTP statuses that the next requests get instead of an answer."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.requests: list[dict[str, Any]] = []
        self.failures: list[int] = []
        self._turns: dict[str, threading.Event] = {}
        self._ends: dict[str, dict[str, Any]] = {}
        self._guard = threading.Lock()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def config(self) -> dict[str, str]:
        """The settings of a sidecar that uses it."""
        url = f"http://127.0.0.1:{self._server.server_address[1]}/hooks"
        return {"wake_mode": "hook", "hook_url": url, "hook_token": TOKEN}

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, key: str, token: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """What a request gets."""
        if token != f"Bearer {TOKEN}":
            return 401, {"ok": False, "error": "unauthorized"}
        self.requests.append({"key": key, **body})
        if self.failures:
            return self.failures.pop(0), {"ok": False, "error": "not now"}
        with self._guard:
            known = self._turns.get(key)
            if known is None:
                known = self._turns[key] = threading.Event()
                threading.Thread(target=self._work, args=(key, body["message"]), daemon=True).start()
        if not body.get("waitForCompletion"):
            return 200, {"ok": True, "runId": f"run-{key}"}
        known.wait()
        return 200, {"ok": True, "runId": f"run-{key}", "completion": {"status": self._ends[key]["status"]}}

    def _work(self, key: str, message: str) -> None:
        self._ends[key] = do_turn(self.workshop.state, message)
        self._turns[key].set()


class _Handler(BaseHTTPRequestHandler):
    owner: HookServer
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """The name that the base class calls."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key, token = self.headers["idempotency-key"], self.headers["authorization"]
        status, value = self.owner.answer(key, token, body)
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Quiet."""
