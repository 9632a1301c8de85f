import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import structlog

from sidecar_support.hub import Hub
from sidecar_support.program import Program


@pytest.fixture(autouse=True)
def _quiet_log() -> None:
    structlog.configure(processors=[structlog.testing.LogCapture()])


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    hub = Hub()
    await hub.start()
    yield hub
    await hub.stop()


@pytest.fixture
async def program(hub: Hub, tmp_path: Path) -> AsyncIterator[Callable[..., Program]]:
    """Makes sidecars of this test's hub, in ``tmp_path``; whatever still runs at the end is ended."""
    async with contextlib.AsyncExitStack() as stack:

        def make(wake_command: Any = None, **config: Any) -> Program:
            made = Program(tmp_path, wake_command=wake_command, **{"hub_url": hub.url, **config})
            stack.push_async_callback(made.end)
            return made

        yield make
