"""The way in and out of a service process: settings, logs, event loop, signals, exit code."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

import structlog
import uvloop
from pydantic import ValidationError

from agentcom.errors import AgentComError
from agentcom.observe.logging import configure_logging
from agentcom.settings import Settings
from services.runtime.component import StartupError
from services.runtime.health import health_app
from services.runtime.http_server import HttpServer
from services.runtime.supervisor import Supervisor

log = structlog.get_logger(__name__)

Build = Callable[[Settings], AbstractAsyncContextManager[Supervisor]]
"""Wires a service: opens what it needs (a store), yields its supervisor, closes again."""

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_BAD_SETTINGS: Final = 2


def run_service(service: str, build: Build, *, settings: Settings | None = None) -> int:
    """Run a service until SIGTERM or SIGINT. Returns the exit code: 0 after a drain, 1 if it could not run, 2 settings.

    A second signal cancels what is still draining. What went wrong is one sentence on stderr.
    """
    if settings is None:
        try:
            settings = Settings()
        except ValidationError as error:
            for problem in error.errors(include_url=False, include_input=False):
                name = ".".join(str(part) for part in problem["loc"])
                print(f"{service}: setting {name}: {problem['msg']}", file=sys.stderr)  # noqa: T201
            return EXIT_BAD_SETTINGS
    configure_logging(service=service, level=settings.log_level, fmt=settings.log_format)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(service, build, settings=settings))
    except (StartupError, AgentComError) as error:
        print(f"{service}: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_FAILED
    except asyncio.CancelledError:
        log.info("service_stopped", before="running")
    except Exception:
        # Through the log pipeline, which redacts it; the interpreter's own traceback would not be.
        log.exception("service_failed")
        return EXIT_FAILED
    return EXIT_OK


async def _run(service: str, build: Build, *, settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_unhandled)
    main = asyncio.current_task()
    supervisor: Supervisor | None = None

    def stop(signum: signal.Signals) -> None:
        if supervisor is not None:
            supervisor.request_stop(signum.name)
        elif main is not None:
            main.cancel(signum.name)

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop, signum)
    async with build(settings) as built:
        if settings.health_port is not None and not any(isinstance(c, HttpServer) for c in built.components):
            built.add(HttpServer(health_app(built), host=settings.host, port=settings.health_port, name="health"))
        built.on_ready = built.on_ready or _settle_memory
        supervisor = built
        await built.run()


def _settle_memory() -> None:
    """What is alive once a service is ready stays: keep the collector from walking it again and again."""
    gc.collect()
    gc.freeze()


def _log_unhandled(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    error = context.get("exception")
    log.error(
        "unhandled_error",
        detail=context.get("message"),
        exc_info=error if isinstance(error, BaseException) else None,
    )
