"""A hub of real processes for each worker, and a scenario on it for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path

import pytest

from tests.support.hub import HubProcesses
from tests.support.scenario import QUICK, Scenario, scenario_on

FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest.fixture(scope="package")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcesses]:
    """A hub with two gateways and two schedulers, shared by a worker's tests of this package: leave it as it was."""
    copies = {"api": 1, "ws_gateway": 2, "scheduler": 2, "reaper": 1}
    processes = HubProcesses(tmp_path_factory.mktemp("hub"), copies=copies, settings=QUICK)
    try:
        processes.start_blocking()
        yield processes
    finally:
        processes.stop()


@pytest.fixture
async def scenario(hub: HubProcesses, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Scenario]:
    """A scenario on the shared hub. It ends with the proof, unless the test has failed already."""
    async with scenario_on(hub, tmp_path) as running:
        yield running
        running.failed = request.node.stash.get(FAILED, False)
