"""One hub for all tests of a worker, as somebody runs it on their machine; a fresh home folder for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine import LocalHub, Machine


@pytest.fixture(scope="package")
def local_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHub]:
    hub = LocalHub(tmp_path_factory.mktemp("local-hub"))
    try:
        hub.start()
        yield hub
    finally:
        hub.stop()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    home = tmp_path / "home"
    home.mkdir()
    operator = Machine(home)
    yield operator
    operator.clean_up()
