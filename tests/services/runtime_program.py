"""A small real service, run as a process by test_runtime: HTTP, a WebSocket, and a part that misbehaves on request."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from agentcom.settings import Settings
from services.runtime import BaseComponent, HttpServer, Supervisor, health_routes, pause, run_service


class Idle(BaseComponent):
    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self.touch()
            await pause(stop, 0.1)


class Stubborn(BaseComponent):
    """Goes on after it was asked to stop, until it is cancelled."""

    async def run(self, stop: asyncio.Event) -> None:
        while True:
            self.touch()
            await asyncio.sleep(0.05)


async def slow(request: Request) -> PlainTextResponse:
    print("slow request running", flush=True)
    await asyncio.sleep(float(request.query_params["seconds"]))
    return PlainTextResponse("finished")


async def frozen(_request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(gc.get_freeze_count()))


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


@asynccontextmanager
async def build(settings: Settings) -> AsyncIterator[Supervisor]:
    mode = sys.argv[1]
    if mode == "hang-in-build":
        print("building", flush=True)
        await asyncio.Event().wait()
    supervisor = Supervisor("program", drain_timeout=settings.shutdown_timeout_ms / 1000)
    if mode == "without-http":
        supervisor.add(Idle("idle"))
    elif mode == "stubborn":
        supervisor.add(Stubborn("stubborn"))
    else:
        app = Starlette(
            routes=[
                Route("/slow", slow),
                Route("/frozen", frozen),
                WebSocketRoute("/echo", echo),
                *health_routes(supervisor),
            ]
        )
        supervisor.add(HttpServer(app, host=settings.host, port=settings.port, drain_timeout=8))
    yield supervisor
    print("closed", flush=True)


if __name__ == "__main__":
    sys.exit(run_service("program", build))
