"""A gateway on a real port with a real store, and agents on plain sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.services.ws_gateway.support import GatewayHub


@pytest.fixture
async def hub(redis_url: str, namespace: str) -> AsyncIterator[GatewayHub]:
    """A running gateway with the usual settings."""
    async with GatewayHub(redis_url, namespace) as running:
        yield running
