"""Which tests one worker runs one after the other."""

from __future__ import annotations

from typing import Final

from xdist.scheduler import LoadScopeScheduling

#: Tests of one hub each, by how their paths begin. Elsewhere, every test is handed out by itself.
SHARED_HUBS: Final[tuple[tuple[str, ...], ...]] = (
    ("tests/e2e/onboarding/",),
    ("tests/e2e/test_connections.py", "tests/e2e/test_sidecar.py", "tests/e2e/test_tasks.py"),
)


class OneWorkerForEachHub(LoadScopeScheduling):
    """Hands out tests in their order, but all those that share a hub to the same worker: it starts only once."""

    def _split_scope(self, nodeid: str) -> str:
        return next((group[0] for group in SHARED_HUBS if nodeid.startswith(group)), nodeid)
