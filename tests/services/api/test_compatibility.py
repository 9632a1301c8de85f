"""docs/compatibility.md names every route and every frame, and for each a test that there is."""

from __future__ import annotations

import re
from pathlib import Path

from agentcom.settings import Settings
from agentcom.store.store import Store
from agentcom.wire.frames import FrameKind
from services.api.app import create_app
from services.api.routing import Endpoint

ROOT = Path(__file__).parents[3]
ROW = re.compile(r"^\| `([^`]+)` \| (same|stricter|new) \| ([^|]*) \| `([^`]+)` \|$", re.MULTILINE)


def rows(heading: str) -> list[tuple[str, str, str, str]]:
    """The rows of the table under a heading."""
    text = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    found = ROW.findall(section)
    assert len(found) == section.count("\n| `"), "a row is not as the others"
    return found


def test_every_route_is_in_the_table(redis_url: str) -> None:
    routes = create_app(Store(redis_url, Settings()), Settings()).routes
    found = {f"{route.method} {route.path}" for route in routes if isinstance(route, Endpoint)}
    named = [name for name, *_ in rows("Routes")]
    assert found - set(named) == set()
    assert set(named) - found == set()
    assert len(named) == len(set(named))


def test_every_frame_is_in_the_table() -> None:
    assert {name for name, *_ in rows("Frames from agents")} == set(FrameKind)


def test_each_names_a_test_that_mentions_it() -> None:
    for name, kind, difference, test in [*rows("Routes"), *rows("Frames from agents")]:
        text = (ROOT / test).read_text(encoding="utf-8")
        assert kind != "stricter" or difference, f"{name} is stricter, but why?"
        literal = re.split(r"[ {]", name.partition(" ")[2] or name)[0].rstrip("/")
        last = literal.rpartition("/")[2]
        assert last in text, f"{test} says nothing of {name}"
