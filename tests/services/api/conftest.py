"""An API in process, on a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentcom.settings import Settings
from tests.services.api.harness import Api, opened


@pytest.fixture
def settings(namespace: str, tmp_path: Path) -> Settings:
    return Settings(namespace=namespace, data_dir=tmp_path)


@pytest.fixture
async def api(redis_url: str, settings: Settings) -> AsyncIterator[Api]:
    async with opened(redis_url, settings) as api:
        yield api
