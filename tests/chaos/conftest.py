"""Chance for the chaos tests."""

from __future__ import annotations

import random

import pytest

from tests.support.scenario import seeded


@pytest.fixture
def rng() -> random.Random:
    """Printed and repeatable; see :func:`tests.support.scenario.seeded`."""
    return seeded()
